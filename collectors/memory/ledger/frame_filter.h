// A small approximate set of page frames (a Bloom filter). It never misses a frame that was added. It reports a frame
// that was not added at most once in 16 times. Takes two bytes per frame. Pure values.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "collectors/base/page_numbers.h"

namespace cow::memory {

class FrameFilter {
 public:
  // Has room for `frames` frames.
  explicit FrameFilter(size_t frames) : words_(std::bit_ceil(frames / kFramesPerWord + 1)) {}

  // Returns true if the frame may have been added before.
  bool Add(Pfn frame) {
    uint64_t& word = words_[WordOf(frame)];
    const uint64_t bit = BitOf(frame);
    const bool had = (word & bit) != 0;
    word |= bit;
    return had;
  }
  bool MayHave(Pfn frame) const { return (words_[WordOf(frame)] & BitOf(frame)) != 0; }

 private:
  static constexpr size_t kFramesPerWord = 4;  // 16 bits each

  static uint64_t Mix(Pfn frame) { return frame.number() * 0x9e3779b97f4a7c15; }
  size_t WordOf(Pfn frame) const { return (Mix(frame) >> 20U) & (words_.size() - 1); }
  static uint64_t BitOf(Pfn frame) { return uint64_t{1} << (Mix(frame) >> 58U); }

  std::vector<uint64_t> words_;
};

}  // namespace cow::memory
