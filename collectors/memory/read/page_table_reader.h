// Reads one page table during a pass (/proc/PID/pagemap): finds the ranges worth reading, reads them window by window,
// and lets the process rest between two windows. No read holds the target's mmap lock for longer than one window takes.
// Not thread-safe.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <unordered_set>
#include <vector>

#include "collectors/base/result.h"
#include "collectors/memory/process/process_table.h"
#include "collectors/memory/read/host.h"
#include "collectors/memory/read/mapping.h"
#include "collectors/memory/read/scan_counters.h"
#include "collectors/procfs/pagemap.h"
#include "collectors/procfs/pagemap_scan.h"

namespace cow::memory {

// Memory that is not read page by page, because no other process can share it: from status, in bytes.
struct Unwalked {
  uint64_t anon_bytes = 0;
  uint64_t swap_bytes = 0;
  uint64_t hugetlb_bytes = 0;
  uint64_t zero_base_bytes = 0;  // from PAGEMAP_SCAN, as the next two
  uint64_t zero_huge_bytes = 0;
  uint64_t huge_pmd_bytes = 0;
};

// Whose page table is read.
struct PageTableOwner {
  std::shared_ptr<const Process> process;
  std::shared_ptr<const std::vector<Mapping>> mappings;
  const std::unordered_set<uint64_t>* huge_windows = nullptr;  // mapped by one huge page at the last look
  std::optional<Error>* unread = nullptr;                      // set when a read fails
};

class PageTableReader {
 public:
  // `host`, `counters` and `pagemap` outlive it, as does what `owner` points to.
  PageTableReader(const Host& host, ScanCounters& counters, const procfs::Pagemap& pagemap, PageTableOwner owner);

  const std::vector<Mapping>& mappings() const { return *owner_.mappings; }
  // False once a read has failed; the owner's `unread` says why.
  bool alive() const { return alive_; }

  // What it reads from now on is added to these.
  void CountIn(ScanCounters& counters) { counters_ = &counters; }
  // The process ended: its page table is not read any more.
  void End() { alive_ = false; }

  // Finds the ranges of pages worth reading: of every mapping, or not of anonymous memory.
  void Plan(bool walk_all);
  // The first window that is still to be read.
  std::optional<uint64_t> NextWindow() const;
  // All that are still to be read, ascending, some of them twice.
  void AddWindows(std::vector<uint64_t>& windows) const;
  // Ranges up to the end of the window are done with.
  void Pass(uint64_t window);
  // The plan has pages in the window.
  bool Maps(uint64_t window) const;

  // Reads the window's entries, pages that are not in the plan as zero. Returns how many pages are mapped by a huge
  // page (the zero page's not among them), as far as PAGEMAP_SCAN is there to tell.
  uint64_t ReadWindow(uint64_t window, std::span<uint64_t> entries);
  // The same with all pages, whatever is planned.
  uint64_t ReadWholeWindow(uint64_t window, std::span<uint64_t> entries);
  // Reads any pages of one window.
  bool ReadPages(uint64_t first, std::span<uint64_t> entries);

  // Zero pages and huge pages of anonymous mappings that are not walked, by PAGEMAP_SCAN.
  void ScanUnwalked(Unwalked& unwalked);

 private:
  struct PageRange {
    uint64_t first = 0;  // page numbers
    uint64_t last = 0;   // past the end
  };

  void Rest(size_t pages);
  bool ReadHugePage(uint64_t window, std::span<uint64_t> entries);
  uint64_t CountHugePages(uint64_t window, std::span<const uint64_t> entries);
  // Hands the regions to `take` slice by slice: a process may have any number of them.
  template <class Take>
  void ScanMapping(const procfs::Vma& vma, uint64_t any_of, uint64_t return_mask, bool sparse, Take&& take);
  void AddPopulatedRanges(const Mapping& mapping);
  std::vector<bool> EmptyByScreening() const;

  const Host* host_;
  ScanCounters* counters_;
  const procfs::Pagemap* pagemap_;
  PageTableOwner owner_;
  size_t pages_;
  std::vector<PageRange> ranges_;  // to be read, ascending
  size_t next_range_ = 0;
  bool alive_ = true;
  uint64_t pages_since_rest_ = 0;
  std::chrono::steady_clock::time_point read_end_;
  std::vector<procfs::ScanRegion> regions_;
};

}  // namespace cow::memory
