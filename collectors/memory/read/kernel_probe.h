// Finds out at start-up which of the kernel's words about pages can be relied on, by reading them for pages of our own
// whose state is known: a fresh page, the same page after a fork, a copy, a page mapped twice, a huge page of which a
// part is dropped. A kernel's version tells nothing: distributions backport faults and their corrections.
//
// Costs one short-lived child and at most one huge page, a few milliseconds in all. Never fails: what can't be tried is
// not relied on. Call it from any thread; the child only makes system calls and ends before the call returns.
#pragma once

#include <cstdint>

#include "collectors/memory/ledger/frame_facts.h"
#include "collectors/procfs/pagemap_scan.h"
#include "collectors/procfs/root.h"
#include "collectors/procfs/system.h"

namespace cow::memory {

struct KernelFacts {
  FrameWords words;
  bool entry_kinds = false;     // pagemap bits 61 and 63 tell anonymous pages from shared ones and from holes
  bool mapped_once = false;     // pagemap bit 56: set on a page mapped once, clear on a small page mapped twice
  bool page_mapcounts = false;  // bit 56, and kpagecount where it can be read, are each page's own in a large folio
  bool scan_kinds = false;      // PAGEMAP_SCAN finds present pages, zero pages and huge pages to be what they are

  // As the kernel documents them: for trees that are no procfs, whose kernel can't be asked.
  static KernelFacts AsDocumented();
};

// Where this process finds its own page tables: `root`, or this system's /proc where `root` is the procfs of a PID
// namespace that this process is not in and so has no `self`. All procfs mounts show one kernel.
procfs::Root RootOfSelf(const procfs::Root& root);

// `scan`: the categories that the kernel knows.
KernelFacts ProbeKernel(const procfs::Root& root, const procfs::PageGeometry& geometry,
                        const procfs::PagemapScan& scan);

}  // namespace cow::memory
