// What holds for all scanning on this host: where it is read, what the kernel and this process' rights allow, and the
// host's own counters at the current pass. Written between passes only, so any thread may read it during one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "collectors/memory/ledger/page.h"
#include "collectors/memory/process/fork_history.h"
#include "collectors/memory/read/kernel_probe.h"
#include "collectors/procfs/pagemap_scan.h"
#include "collectors/procfs/root.h"
#include "collectors/procfs/system.h"
#include "collectors/procfs/vmstat.h"

namespace cow::memory {

// What the kernel and this process' rights allow.
struct Capabilities {
  bool frames = false;
  bool kpageflags = false;
  bool kpagecount = false;
  bool pagemap_scan = false;
  bool exclusive_marks = false;  // kpageflags bit 34 is AnonExclusive
  bool folio_marks = false;      // and a page of a large folio has one of its own
  bool merged_flag = false;      // kpageflags bit 21 tells the pages that KSM merged
  bool page_mapcounts = false;   // each page of a large folio tells how often it is mapped
  bool sees_every_process = false;
};

struct Host {
  procfs::Root root;
  procfs::PageGeometry geometry;
  Capabilities capabilities;
  procfs::PagemapScan scan;
  KernelFacts kernel;
  uint64_t zero_frame = kNoFrame;
  std::optional<procfs::Vmstat> vmstat;  // at the begin of this pass
  bool ksm_has_merged = false;           // pages of somebody
  ForkHistory* forks = nullptr;          // null: nothing is known of forks

  // kpageflags can be read, and do not tell the pages that KSM merged.
  bool IsMergingUntold() const { return capabilities.kpageflags && !capabilities.merged_flag; }
};

}  // namespace cow::memory
