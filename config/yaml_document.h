// Finds errors that yaml-cpp's nodes hide. Throws only bad_alloc. Any thread.
#pragma once

#include <optional>
#include <string_view>
#include <utility>

namespace cow::config {

// Line and column (from 0) of a second document, if any. yaml-cpp silently ignores all documents but the first. `text`
// must be valid for YAML::Load.
std::optional<std::pair<int, int>> FindSecondDocument(std::string_view text);

}  // namespace cow::config
