// Makes label values from the names that processes give themselves. Pure.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace cow::collectors {

// Returns valid UTF-8 of at most `max_bytes`. Replaces each invalid byte by U+FFFD and cuts between two characters.
// Keeps control characters, because the text format escapes those that need it.
std::string LabelValue(std::string_view raw, size_t max_bytes);

}  // namespace cow::collectors
