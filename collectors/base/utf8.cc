#include "collectors/base/utf8.h"

#include <utf8/core.h>

#include <algorithm>

namespace cow {

// utfcpp's decoder throws at invalid text, which is slow for hostile input; is_valid does not throw.
size_t Utf8CharacterLength(std::string_view text) {
  constexpr size_t kMaxLength = 4;
  for (size_t length = 1; length <= std::min(text.size(), kMaxLength); ++length) {
    const std::string_view character = text.substr(0, length);
    if (utf8::is_valid(character.begin(), character.end())) return length;
  }
  return 0;
}

}  // namespace cow
