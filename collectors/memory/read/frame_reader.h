// Reads /proc/kpageflags and /proc/kpagecount for single page frames. Works without either file: it then gives no facts
// from it. Frames are PFNs. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "collectors/memory/ledger/frame_facts.h"
#include "collectors/memory/read/scan_counters.h"
#include "collectors/procfs/kpage.h"
#include "collectors/procfs/root.h"

namespace cow::memory {

class FrameReader {
 public:
  // `pages_per_window`: the pages of the largest transparent huge page. Counts its reads in `counters`, which outlives
  // it.
  FrameReader(const procfs::Root& root, const FrameWords& words, size_t pages_per_window, ScanCounters& counters);

  // Finds the PFN of the base zero page by its flag, first in the kernel's image, then in low memory; Pfn::None() if
  // not found. Takes a few milliseconds.
  Pfn SearchZeroFrame(const procfs::Root& root, size_t page_bytes);

  // Says whether KSM may have merged pages of the processes whose frames are read next.
  void SetMayBeMerged(bool may_be_merged) { may_be_merged_ = may_be_merged; }

  bool has_flags() const { return flags_.has_value(); }
  bool has_counts() const { return counts_.has_value(); }

  // Sets `facts` for `frames` (in any order, with duplicates; sorts them and removes duplicates). A file that is
  // unreadable gives no facts. A page of a huge page counts as exclusive if the first page is, on every kernel.
  void Read(std::vector<Pfn>& frames, bool want_counts, FrameFacts& facts);
  // Adds facts and mapcounts for more frames, which are sorted and above all frames of `facts`.
  void ReadMore(std::span<const Pfn> frames, FrameFacts& facts);

 private:
  Pfn SearchZeroFrameIn(Pfn first, Pfn end) const;
  std::vector<uint64_t> ReadFlags(std::span<const Pfn> frames);
  std::vector<uint64_t> ReadCounts(std::span<const Pfn> frames);
  void AddMarksOfFirstPages(std::span<const Pfn> frames, std::span<uint64_t> flags);

  std::optional<procfs::KpageFile> flags_;
  std::optional<procfs::KpageFile> counts_;
  FrameWords words_;
  size_t pages_per_window_;
  bool may_be_merged_ = false;
  ScanCounters& counters_;
};

}  // namespace cow::memory
