// Finds frames in the records of all windows, in steps. Pure: changes nothing.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <tuple>
#include <vector>

#include "collectors/base/page_numbers.h"
#include "collectors/base/steps.h"
#include "collectors/memory/ledger/page.h"
#include "collectors/memory/ledger/window_records.h"

namespace cow::memory {

// A small approximate set of page frames (a Bloom filter). It never misses a frame that was added. It reports a frame
// that was not added at most once in 16 times. Takes two bytes per frame.
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

// The place of a frame in the records.
struct RecordedPage {
  Pfn frame;
  PageNumber page;
  uint64_t holders = 0;

  bool operator<(const RecordedPage& other) const { return std::tie(frame, page) < std::tie(other.frame, other.page); }
};

// Finds the pages recorded at these frames, sorted by frame. `frames` is sorted. Skips the main frame of a page with an
// absent holder.
Steps FindRecorded(const WindowRecords& records, std::span<const Pfn> frames, size_t pages_per_window,
                   std::vector<RecordedPage>& found);

// Adds the records' frames to the filter. `doubles`: frames that the filter had already, sorted, and a few false
// positives.
Steps FindDoubles(const WindowRecords& records, size_t pages_per_window, FrameFilter& filter,
                  std::vector<Pfn>& doubles);

// True if the record has the slot as a holder of this frame. `recorded`: the record's bitmap from CopyRecorded.
bool HoldsFrame(const PackedWindow& record, BitmapView recorded, size_t page, Pfn frame, MemberIndex slot);

}  // namespace cow::memory
