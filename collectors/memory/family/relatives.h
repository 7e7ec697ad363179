// Finds out whether two processes are related: they map a common frame, or have the same address space. Reads a few
// windows of both pagemaps with rests between them, kpageflags, and small files of /proc/PID. Adds its reads to the
// scanner's counters. Not thread-safe.
#pragma once

#include <compare>
#include <cstddef>
#include <optional>
#include <vector>

#include "collectors/memory/family/lineage.h"
#include "collectors/memory/read/frame_reader.h"
#include "collectors/memory/read/scan_counters.h"
#include "collectors/procfs/maps.h"
#include "collectors/procfs/pagemap.h"
#include "collectors/procfs/root.h"
#include "collectors/procfs/system.h"

namespace cow::memory {

class Relatives : public FrameProbe {
 public:
  // `zero_frame`: Pfn::None() where frames are hidden. `frames` and `counters` outlive this.
  Relatives(procfs::Root root, procfs::PageGeometry geometry, Pfn zero_frame, LayoutSource layouts, FrameReader& frames,
            ScanCounters& counters);

  bool ShareFrame(const Process& a, const Process& b) override;
  std::optional<std::strong_ordering> CompareMemory(const Process& a, const Process& b) override;
  std::optional<bool> SameMemory(const Process& a, const Process& b) override;
  std::optional<bool> HasPagemap(const Process& process, const procfs::Pagemap& pagemap) override;
  Result<procfs::Pagemap> OpenPagemap(const Process& process) override;
  bool LayoutIsRandom(const Process& process) override;

 private:
  // Calls visit(entries of a, entries of b) for windows that may hold anonymous pages, in ascending order, until it
  // returns true. Stops after a fixed number of windows. False if no call returned true.
  template <class Visit>
  bool ForEachWindow(const procfs::Pagemap& a, const procfs::Pagemap& b, procfs::MapsReader& areas, Visit&& visit);
  void ExpectMerged(const Process& a, const Process& b);
  bool AnyInBoth(std::vector<Pfn>& frames);

  procfs::Root root_;
  procfs::PageGeometry geometry_;
  size_t pages_;
  Pfn zero_frame_;
  LayoutSource layouts_;
  FrameReader& frames_;
  ScanCounters& counters_;
  bool random_layouts_;
};

}  // namespace cow::memory
