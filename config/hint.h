// Suggests valid names for an unknown one. Pure, any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace cow::config {

// Returns the name that differs least from `name`, an element of `valid`; null if all differ in more than half.
const std::string* Nearest(std::string_view name, const std::vector<std::string>& valid);

// Text to append to "unknown key": the nearest valid name, or the valid names if none is near.
std::string Hint(std::string_view name, const std::vector<std::string>& valid);

}  // namespace cow::config
