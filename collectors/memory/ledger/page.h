// The vocabulary of the ledger: slots, pagemap entries, and bitmaps over the pages of one window.
//
// A frame is a page frame, named by its PFN. Reads no file. Units: pages. Pure values, safe in any thread.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "collectors/procfs/pagemap.h"

namespace cow::memory {

// The number of a member in the ledger of its family: small, dense, and reused after the member has left.
using Slot = uint32_t;

using procfs::PageEntry;

inline constexpr uint64_t kNoFrame = 0;

// The PFN of a present anonymous page that copy-on-write can share. kNoFrame for every other entry: absent, swapped,
// page cache, shared anonymous memory, the zero page.
inline uint64_t AnonFrame(PageEntry entry, uint64_t zero_frame) {
  const uint64_t frame = entry.Frame();
  return entry.IsAnonymous() && frame != zero_frame ? frame : kNoFrame;
}

// A set of slots.
class SlotSet {
 public:
  SlotSet() = default;
  explicit SlotSet(std::span<const Slot> slots) {
    for (const Slot slot : slots) Add(slot);
  }

  bool Has(Slot slot) const { return slot < has_.size() && has_[slot]; }
  void Add(Slot slot) {
    if (slot >= has_.size()) has_.resize(slot + size_t{1});
    has_[slot] = true;
  }
  void Clear() { has_.clear(); }

 private:
  std::vector<bool> has_;  // by slot
};

// A bitmap over the pages of a window is a span of 64-bit words.
constexpr size_t BitmapWords(size_t pages) { return (pages + 63) / 64; }
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

// Counts the bits set within [first, first + count).
size_t CountBits(std::span<const uint64_t> words, size_t first, size_t count);

template <class Visit>
void ForEachBit(std::span<const uint64_t> words, Visit&& visit) {
  for (size_t w = 0; w < words.size(); ++w) {
    for (uint64_t rest = words[w]; rest != 0; rest &= rest - 1) {
      visit(w * 64 + static_cast<size_t>(std::countr_zero(rest)));
    }
  }
}

// The middle frame of the aligned, window-sized run of frames that contains `frame`. If `frame` has its page's place in
// such a run, only a huge page puts both frames into one folio (FrameFacts::IsOfHugePage).
inline uint64_t MiddleFrame(uint64_t frame, size_t pages_per_window) {
  return frame - frame % pages_per_window + pages_per_window / 2;
}

// True if the entries map one aligned huge page's worth of consecutive frames: a PMD-mapped huge page, or a huge page
// mapped by single entries. Only PAGEMAP_SCAN distinguishes the two.
bool IsHugeRun(std::span<const PageEntry> entries);

}  // namespace cow::memory
