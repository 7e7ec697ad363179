// What pagemap entries and page frames mean for the ledger.
//
// A frame is a page frame, named by its PFN. Reads no file. Units: pages. Pure values, safe in any thread.
#pragma once

#include <cstddef>
#include <span>

#include "collectors/base/page_numbers.h"
#include "collectors/procfs/pagemap.h"

namespace cow::memory {

using procfs::PageEntry;

// The PFN of a present anonymous page that copy-on-write can share. Pfn::None() for every other entry: absent, swapped,
// page cache, shared anonymous memory, the zero page.
inline Pfn AnonFrame(PageEntry entry, Pfn zero_frame) {
  const Pfn frame = entry.Frame();
  return entry.IsAnonymous() && frame != zero_frame ? frame : Pfn::None();
}

// The middle frame of the aligned, window-sized run of frames that contains `frame`. If `frame` has its page's place in
// such a run, only a huge page puts both frames into one folio (FrameFacts::IsOfHugePage).
inline Pfn MiddleFrame(Pfn frame, size_t pages_per_window) {
  return frame.FirstOfRun(pages_per_window) + pages_per_window / 2;
}

// True if the entries map one aligned huge page's worth of consecutive frames: a PMD-mapped huge page, or a huge page
// mapped by single entries. Only PAGEMAP_SCAN distinguishes the two.
inline bool IsHugeRun(std::span<const PageEntry> entries) {
  const Pfn first = entries.front().Frame();
  if (!entries.front().IsPresent() || first == Pfn::None() || first.InRun(entries.size()) != 0) return false;
  if (entries.back().Frame() != first + (entries.size() - 1)) return false;
  for (size_t i = 1; i < entries.size(); ++i) {
    if (!entries[i].IsPresent() || entries[i].Frame() != first + i) return false;
  }
  return true;
}

}  // namespace cow::memory
