// Facts for all scanning on this host: the /proc root, what the kernel and this process's rights allow, and the host's
// counters at the current pass. Written between passes only, so any thread may read it during a pass.
#pragma once

#include <optional>

#include "collectors/memory/ledger/page.h"
#include "collectors/memory/process/fork_history.h"
#include "collectors/memory/read/kernel_probe.h"
#include "collectors/procfs/pagemap_scan.h"
#include "collectors/procfs/root.h"
#include "collectors/procfs/system.h"
#include "collectors/procfs/vmstat.h"

namespace cow::memory {

// What the kernel and this process's rights allow.
struct Capabilities {
  bool frames = false;
  bool kpageflags = false;
  bool kpagecount = false;
  bool pagemap_scan = false;
  bool exclusive_marks = false;  // kpageflags bit 34 is AnonExclusive
  bool folio_marks = false;      // also for pages of large folios
  bool merged_flag = false;      // kpageflags bit 21 marks exactly the pages merged by KSM
  bool page_mapcounts = false;   // mapcounts are per page, also in large folios
  bool ptrace = false;           // exe, the layout in stat and kcmp, also of other users' processes
  bool sees_every_process = false;
};

struct Host {
  procfs::Root root;
  procfs::PageGeometry geometry;
  Capabilities capabilities;
  procfs::PagemapScan scan;
  KernelFacts kernel;
  Pfn zero_frame;
  std::optional<procfs::Vmstat> vmstat;  // at the start of this pass
  bool ksm_has_merged = false;           // pages of some process
  ForkHistory* forks = nullptr;          // null: forks are unknown

  // True if kpageflags is readable but does not show which pages KSM merged.
  bool IsMergingUntold() const { return capabilities.kpageflags && !capabilities.merged_flag; }
};

}  // namespace cow::memory
