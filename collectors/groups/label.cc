#include "collectors/groups/label.h"

#include "collectors/base/utf8.h"

namespace cow::collectors {

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

}  // namespace cow::collectors
