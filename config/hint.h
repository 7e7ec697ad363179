// Suggests valid names for an unknown one. Pure, any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace cow::config {

// Text to append to "unknown key": the nearest valid name, or the valid names if none is near.
std::string Hint(std::string_view name, const std::vector<std::string>& valid);

}  // namespace cow::config
