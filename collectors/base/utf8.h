// Validates UTF-8, so that foreign text is safe in labels, log lines and pages. Pure, any thread.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace cow {

// Returns the length in bytes of the first character of `text`, or 0 if `text` does not begin with a well-formed
// character. Overlong forms and surrogates are not well-formed.
size_t Utf8CharacterLength(std::string_view text);

// Makes a label value from a name that a process gave itself. Returns valid UTF-8 of at most `max_bytes`. Replaces each
// invalid byte by U+FFFD and cuts between two characters. Keeps control characters, because the text format escapes
// those that need it.
std::string LabelValue(std::string_view raw, size_t max_bytes);

}  // namespace cow
