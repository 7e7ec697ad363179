// Frame numbers of a window's pages in as few bytes as they need: runs of consecutive frames as runs (huge pages,
// contiguous allocations), others one by one, in four bytes each where they fit (memory up to 16 TiB), else in eight.
//
// Pure values. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "collectors/memory/ledger/page.h"

namespace cow::memory {

class PackedFrames {
 public:
  PackedFrames() = default;
  // `frames`: per page of the window; kept are those of pages in the bitmap `recorded`.
  PackedFrames(std::span<const uint64_t> frames, std::span<const uint64_t> recorded);

  // `recorded` as it was packed with. Gives kNoFrame for other pages.
  void Unpack(std::span<const uint64_t> recorded, std::span<uint64_t> frames) const;

  // A page's at most: 4 where all frames fit 32 bits, else 8.
  uint64_t HeapBytes() const { return words_.capacity() * sizeof(uint32_t); }

 private:
  uint64_t FrameAt(size_t word) const {
    return wide_ ? uint64_t{words_[word]} | uint64_t{words_[word + 1]} << 32U : words_[word];
  }
  size_t WordsPerFrame() const { return wide_ ? 2 : 1; }
  void Add(uint64_t frame);
  void UnpackRuns(std::span<const uint64_t> recorded, std::span<uint64_t> frames) const;

  std::vector<uint32_t> words_;  // of each recorded page the frame; of each run the first page, then its frame
  bool wide_ = false;            // a frame takes two words, the lower half first
  bool runs_ = false;            // within a run frames grow with the page number, also over pages not recorded
};

}  // namespace cow::memory
