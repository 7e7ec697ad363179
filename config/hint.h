// What to say of a name that is not known. Pure, any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace cow::config {

// What to put behind "unknown key": the nearest valid name, or all of them where none is near.
std::string Hint(std::string_view name, const std::vector<std::string>& valid);

}  // namespace cow::config
