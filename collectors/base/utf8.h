// UTF-8, as far as text from outside has to be made safe for labels, log lines and pages. Pure, any thread.
#pragma once

#include <cstddef>
#include <string_view>

namespace cow {

// Bytes of the well-formed character that `text` begins with (no overlong forms, no surrogates); 0 if it begins with
// none.
size_t Utf8CharacterLength(std::string_view text);

}  // namespace cow
