// What every YAML file of ours goes through before its nodes are looked at. Throws nothing but bad_alloc.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "config/units.h"

namespace cow::config {

// The whole file, at most 1 MiB. The error is one phrase without the path.
Parsed<std::string> ReadSmallFile(const std::string& path);

// Line and column, from 0, of where a second document begins: yaml-cpp reads the first one only, and the rest would be
// ignored without a word. `text` must be one that YAML::Load takes.
std::optional<std::pair<int, int>> FindSecondDocument(std::string_view text);

}  // namespace cow::config
