// Finds frames in the records of all windows, in steps.
//
// Pure. Nothing is changed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <tuple>
#include <vector>

#include "collectors/base/steps.h"
#include "collectors/memory/ledger/frame_filter.h"
#include "collectors/memory/ledger/page.h"
#include "collectors/memory/ledger/window_records.h"

namespace cow::memory {

// Where a window's record has a frame.
struct RecordedPage {
  uint64_t frame = kNoFrame;
  uint64_t page = 0;
  uint64_t holders = 0;

  bool operator<(const RecordedPage& other) const { return std::tie(frame, page) < std::tie(other.frame, other.page); }
};

// By frame. `frames`: those looked for, sorted. Pages of which somebody is away are left out.
Steps FindRecorded(const WindowRecords& records, std::span<const uint64_t> frames, size_t pages_per_window,
                   std::vector<RecordedPage>& found);

// Adds what the records have to the filter; `doubles`: frames that it had before, sorted, and a few others.
Steps FindDoubles(const WindowRecords& records, size_t pages_per_window, FrameFilter& filter,
                  std::vector<uint64_t>& doubles);

// The record has the slot as a holder of this frame. `recorded`: the record's bitmap of pages (CopyRecorded).
bool HoldsFrame(const PackedWindow& record, std::span<const uint64_t> recorded, size_t page, uint64_t frame, Slot slot);

}  // namespace cow::memory
