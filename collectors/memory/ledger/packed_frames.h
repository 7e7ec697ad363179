// Packs the frame numbers of a window's pages into few bytes. Consecutive frames (huge pages, contiguous allocations)
// are stored as runs. Other frames take four bytes each if all fit 32 bits (memory up to 16 TiB), else eight.
//
// Pure values. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "collectors/base/bitmap.h"
#include "collectors/memory/ledger/page.h"

namespace cow::memory {

class PackedFrames {
 public:
  PackedFrames() = default;
  // `frames`: one per page of the window. Keeps those of the pages in the bitmap `recorded`.
  PackedFrames(std::span<const Pfn> frames, BitmapView recorded);

  // `recorded` is the bitmap that the frames were packed with. Sets other pages to Pfn::None().
  void Unpack(BitmapView recorded, std::span<Pfn> frames) const;
  // Unpacks them as entries that have no bits but the frame's.
  void Unpack(BitmapView recorded, std::span<PageEntry> entries) const;

  // At most 4 bytes per recorded page, or 8 if a frame needs more than 32 bits.
  uint64_t HeapBytes() const { return words_.capacity() * sizeof(uint32_t); }

 private:
  uint64_t FrameAt(size_t word) const {
    return wide_ ? uint64_t{words_[word]} | uint64_t{words_[word + 1]} << 32U : words_[word];
  }
  size_t WordsPerFrame() const { return wide_ ? 2 : 1; }
  void Add(uint64_t frame);
  template <class Number>
  void UnpackAs(BitmapView recorded, std::span<Number> frames) const;
  template <class Number>
  void UnpackRuns(BitmapView recorded, std::span<Number> frames) const;

  std::vector<uint32_t> words_;  // the frame of each recorded page; of each run its first page and frame
  bool wide_ = false;            // a frame takes two words, the lower half first
  bool runs_ = false;            // stored as runs: frames grow with the page number, also over gaps
};

}  // namespace cow::memory
