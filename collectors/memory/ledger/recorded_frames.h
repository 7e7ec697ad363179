// Finds frames in the records of all windows, in steps. Pure: changes nothing.
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
