#include "collectors/base/bitmap.h"

namespace cow {

size_t CountBits(std::span<const uint64_t> words, size_t first, size_t count) {
  size_t total = 0;
  const size_t end = first + count;
  for (size_t bit = first; bit < end;) {
    const size_t offset = bit % 64;
    const size_t take = std::min<size_t>(64 - offset, end - bit);
    const uint64_t mask = take == 64 ? ~uint64_t{0} : ((uint64_t{1} << take) - 1) << offset;
    total += static_cast<size_t>(std::popcount(words[bit / 64] & mask));
    bit += take;
  }
  return total;
}

}  // namespace cow
