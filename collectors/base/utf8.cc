#include "collectors/base/utf8.h"

namespace cow {
namespace {

bool IsBetween(char c, unsigned low, unsigned high) {
  const auto byte = static_cast<unsigned char>(c);
  return byte >= low && byte <= high;
}

}  // namespace

// Table 3-7 of the Unicode standard.
size_t Utf8CharacterLength(std::string_view text) {
  if (text.empty()) return 0;
  const auto lead = static_cast<unsigned char>(text.front());
  if (lead < 0x80) return 1;
  size_t length = 0;
  unsigned second_low = 0x80;
  unsigned second_high = 0xbf;
  if (lead >= 0xc2 && lead <= 0xdf) {
    length = 2;
  } else if (lead >= 0xe0 && lead <= 0xef) {
    length = 3;
    if (lead == 0xe0) second_low = 0xa0;
    if (lead == 0xed) second_high = 0x9f;
  } else if (lead >= 0xf0 && lead <= 0xf4) {
    length = 4;
    if (lead == 0xf0) second_low = 0x90;
    if (lead == 0xf4) second_high = 0x8f;
  }
  if (length == 0 || text.size() < length || !IsBetween(text[1], second_low, second_high)) return 0;
  for (size_t i = 2; i < length; ++i) {
    if (!IsBetween(text[i], 0x80, 0xbf)) return 0;
  }
  return length;
}

}  // namespace cow
