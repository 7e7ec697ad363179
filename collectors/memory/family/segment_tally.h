// Sums over the pagemap entries of one mapping within one window. Plain values.
#pragma once

#include <cstdint>
#include <tuple>

namespace cow::memory {

// All in base pages.
struct SegmentTally {
  uint32_t anon = 0;           // present, anonymous; the zero page is not in it
  uint32_t anon_shared = 0;    // the part shared with another member at this address
  uint32_t anon_multiple = 0;  // the part with bit 56 clear, the only sign of sharing if frames are hidden
  uint32_t zero_base = 0;
  uint32_t zero_huge = 0;   // base pages mapped by the huge zero page
  uint32_t cache_once = 0;  // page cache or shared memory, mapped exactly once
  uint32_t cache_more = 0;  // and mapped more than once
  uint32_t swapped = 0;
  uint32_t huge_pmd = 0;  // base pages mapped by a PMD, the zero page's not in it

  uint64_t Present() const { return uint64_t{anon} + zero_base + zero_huge + cache_once + cache_more; }
  bool operator==(const SegmentTally&) const = default;
  bool operator<(const SegmentTally& other) const {
    const auto all = [](const SegmentTally& t) {
      return std::tie(t.anon, t.anon_shared, t.anon_multiple, t.zero_base, t.zero_huge, t.cache_once, t.cache_more,
                      t.swapped, t.huge_pmd);
    };
    return all(*this) < all(other);
  }
};

}  // namespace cow::memory
