// Label values from what processes call themselves.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace cow::collectors {

// Valid UTF-8 of at most `max_bytes`: bytes that are none become U+FFFD, and the cut is at a character's end. Control
// characters are kept: the text format escapes what it must.
std::string LabelValue(std::string_view raw, size_t max_bytes);

}  // namespace cow::collectors
