// Reads one page table during a pass (/proc/PID/pagemap). Finds the ranges worth reading, reads them window by window,
// and lets the process rest between two windows. No read holds the target's mmap lock longer than one window takes. A
// failed read ends the reader; the owner gets the error. Not thread-safe.
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

// Memory that is not read page by page because no other process can share it: bytes from status.
struct Unwalked {
  uint64_t anon_bytes = 0;
  uint64_t swap_bytes = 0;
  uint64_t hugetlb_bytes = 0;
  uint64_t zero_base_bytes = 0;  // this and the next two: from PAGEMAP_SCAN
  uint64_t zero_huge_bytes = 0;
  uint64_t huge_pmd_bytes = 0;
};

// The process whose page table is read.
struct PageTableOwner {
  std::shared_ptr<const Process> process;
  std::shared_ptr<const std::vector<Mapping>> mappings;
  const std::unordered_set<WindowIndex>* huge_windows = nullptr;  // mapped by one huge page at the last look
  std::optional<Error>* unread = nullptr;                         // set when a read fails
};

class PageTableReader {
 public:
  // `host`, `counters`, `pagemap` and the data that `owner` points to outlive it.
  PageTableReader(const Host& host, ScanCounters& counters, const procfs::Pagemap& pagemap, PageTableOwner owner);

  const std::vector<Mapping>& mappings() const { return *owner_.mappings; }
  // False after a failed read; the owner's `unread` says why.
  bool alive() const { return alive_; }

  // Counts further reads in `counters`.
  void CountIn(ScanCounters& counters) { counters_ = &counters; }
  // Stops reading because the process ended.
  void End() { alive_ = false; }

  // Finds the ranges of pages worth reading, in all mappings or (`walk_all` false) in those that are not anonymous.
  void Plan(bool walk_all);
  // The next window to read.
  std::optional<WindowIndex> NextWindow() const;
  // Marks ranges up to the end of the window as done.
  void Pass(WindowIndex window);
  // True if the plan has pages in the window.
  bool Maps(WindowIndex window) const;

  // Reads the window's entries; pages outside the plan become zero. Returns the number of pages mapped by a huge page
  // other than the zero page, if PAGEMAP_SCAN is available.
  uint64_t ReadWindow(WindowIndex window, std::span<PageEntry> entries);
  // The same for all pages of the window, also outside the plan.
  uint64_t ReadWholeWindow(WindowIndex window, std::span<PageEntry> entries);
  // Reads any pages of one window.
  bool ReadPages(PageNumber first, std::span<PageEntry> entries);

  // Counts zero pages and huge pages of anonymous mappings with PAGEMAP_SCAN. For memory that is not walked.
  void ScanUnwalked(Unwalked& unwalked);

 private:
  struct PageRange {
    PageNumber first;
    PageNumber last;  // exclusive
  };

  void Rest(size_t pages);
  bool ReadHugePage(WindowIndex window, std::span<PageEntry> entries);
  uint64_t CountHugePages(WindowIndex window, std::span<const PageEntry> entries);
  // Passes the regions to `take` slice by slice: a process may have any number of them.
  template <class Take>
  void ScanMapping(const procfs::Vma& vma, uint64_t any_of, uint64_t return_mask, bool sparse, Take&& take);
  void AddPopulatedRanges(const Mapping& mapping);
  std::vector<bool> EmptyByScreening() const;

  const Host* host_;
  ScanCounters* counters_;
  const procfs::Pagemap* pagemap_;
  PageTableOwner owner_;
  size_t pages_;
  std::vector<PageRange> ranges_;  // to read, ascending
  size_t next_range_ = 0;
  bool alive_ = true;
  uint64_t pages_since_rest_ = 0;
  std::chrono::steady_clock::time_point read_end_;
  std::vector<procfs::ScanRegion> regions_;
};

}  // namespace cow::memory
