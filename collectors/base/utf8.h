// Validates UTF-8, so that foreign text is safe in labels, log lines and pages. Pure, any thread.
#pragma once

#include <cstddef>
#include <string_view>

namespace cow {

// Returns the length in bytes of the first character of `text`, or 0 if `text` does not begin with a well-formed
// character. Overlong forms and surrogates are not well-formed.
size_t Utf8CharacterLength(std::string_view text);

}  // namespace cow
