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

std::string LabelValue(std::string_view raw, size_t max_bytes) {
  constexpr std::string_view kReplacement = "\xEF\xBF\xBD";
  std::string value;
  while (!raw.empty()) {
    const size_t length = Utf8CharacterLength(raw);
    const std::string_view next = length == 0 ? kReplacement : raw.substr(0, length);
    if (value.size() + next.size() > max_bytes) break;
    value += next;
    raw.remove_prefix(length == 0 ? 1 : length);
  }
  return value;
}

}  // namespace cow
