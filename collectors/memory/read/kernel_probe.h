// Finds out at start-up which of the kernel's facts about pages are reliable. Reads them for own pages of known state:
// a fresh page, the same page after fork, a copy, a page mapped twice, a partly dropped huge page. The kernel's version
// does not help: distributions backport faults and fixes.
//
// Reads /proc/self/pagemap, /proc/kpageflags and /proc/kpagecount. Costs a few milliseconds, one short-lived child and
// at most one huge page. Never fails: a fact that cannot be probed counts as unreliable. Call it from any thread. The
// child makes system calls only and ends before the call returns.
#pragma once

#include "collectors/memory/ledger/frame_facts.h"
#include "collectors/procfs/pagemap_scan.h"
#include "collectors/procfs/root.h"
#include "collectors/procfs/system.h"

namespace cow::memory {

struct KernelFacts {
  FrameWords words;
  bool entry_kinds = false;     // pagemap bits 61 and 63 distinguish anonymous pages, shared pages and holes
  bool mapped_once = false;     // pagemap bit 56: set on a page mapped once, clear on a small page mapped twice
  bool page_mapcounts = false;  // bit 56, and kpagecount if readable, are per page in a large folio
  bool scan_kinds = false;      // PAGEMAP_SCAN recognizes present pages, zero pages and huge pages

  // The documented behaviour: for trees that are not procfs, where probing is impossible.
  static KernelFacts AsDocumented();
};

// True if the root is a real procfs, not a tree that looks like one.
bool IsOfThisSystem(const procfs::Root& root);

// The root under which this process finds its own page tables: `root`, or /proc if `root` is the procfs of another PID
// namespace and so has no `self`. All procfs mounts show one kernel.
procfs::Root RootOfSelf(const procfs::Root& root);

// `scan`: the categories that the kernel knows.
KernelFacts ProbeKernel(const procfs::Root& root, const procfs::PageGeometry& geometry,
                        const procfs::PagemapScan& scan);

}  // namespace cow::memory
