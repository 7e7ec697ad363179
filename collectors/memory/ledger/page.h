// Vocabulary of the page-table verdicts: slots, pagemap entries seen as page states, bitmaps over the pages of one
// window.
//
// Pure values; nothing here reads a file.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

#include "collectors/procfs/pagemap.h"

namespace cow::memory {

// A member's place in the ledger of its family: small, dense, reused after the member left.
using Slot = uint32_t;

inline constexpr uint64_t kNoFrame = 0;

inline bool IsPresent(uint64_t entry) { return (entry & procfs::kPagemapPresent) != 0; }
inline bool IsMappedOnce(uint64_t entry) { return (entry & procfs::kPagemapMappedOnce) != 0; }
inline bool IsSwapEntry(uint64_t entry) { return !IsPresent(entry) && (entry & procfs::kPagemapSwapped) != 0; }
// Swapped out, migrating, or otherwise elsewhere for the moment; markers are not pages.
inline bool IsAway(uint64_t entry) { return IsSwapEntry(entry) && !procfs::IsMarker(entry); }
inline uint64_t FrameOf(uint64_t entry) { return entry & procfs::kPagemapFrameMask; }

// The frame of a present anonymous page that copy-on-write can share; kNoFrame for everything else: absent, swapped,
// page cache, shared anonymous memory, the zero page.
inline uint64_t AnonFrame(uint64_t entry, uint64_t zero_frame) {
  constexpr uint64_t kKind = procfs::kPagemapPresent | procfs::kPagemapFile;
  const uint64_t frame = FrameOf(entry);
  return (entry & kKind) == procfs::kPagemapPresent && frame != zero_frame ? frame : kNoFrame;
}

// Bitmaps over the pages of a window: spans of 64-bit words.
inline bool TestBit(std::span<const uint64_t> words, size_t bit) { return ((words[bit / 64] >> (bit % 64)) & 1) != 0; }
inline void SetBit(std::span<uint64_t> words, size_t bit) { words[bit / 64] |= uint64_t{1} << (bit % 64); }
inline void ClearBit(std::span<uint64_t> words, size_t bit) { words[bit / 64] &= ~(uint64_t{1} << (bit % 64)); }

inline bool AnyBit(std::span<const uint64_t> words) {
  uint64_t any = 0;
  for (const uint64_t word : words) any |= word;
  return any != 0;
}

inline size_t CountBits(std::span<const uint64_t> words) {
  size_t count = 0;
  for (const uint64_t word : words) count += static_cast<size_t>(std::popcount(word));
  return count;
}

// Bits set within [first, first + count).
size_t CountBits(std::span<const uint64_t> words, size_t first, size_t count);

template <class Visit>
void ForEachBit(std::span<const uint64_t> words, Visit&& visit) {
  for (size_t w = 0; w < words.size(); ++w) {
    for (uint64_t rest = words[w]; rest != 0; rest &= rest - 1) {
      visit(w * 64 + static_cast<size_t>(std::countr_zero(rest)));
    }
  }
}

// A frame that only a huge page of a window's size has in one folio with this one, where this one has its page's place
// in it: in the middle of the frames that a huge page would take.
inline uint64_t MiddleFrame(uint64_t frame, size_t pages_per_window) {
  return frame - frame % pages_per_window + pages_per_window / 2;
}

// True if the entries map one aligned huge page's worth of consecutive frames: a PMD-mapped huge page, or a huge page
// mapped by single entries. Only PAGEMAP_SCAN tells the two apart.
bool IsHugeRun(std::span<const uint64_t> entries);

}  // namespace cow::memory
