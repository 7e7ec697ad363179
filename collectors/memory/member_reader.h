// One member's way through its page table during a pass: which ranges are worth reading, one window at a time, and a
// rest between two. No read holds the target's mmap lock for longer than one window takes. Not thread-safe.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "collectors/memory/families.h"
#include "collectors/memory/host.h"
#include "collectors/procfs/pagemap.h"
#include "collectors/procfs/pagemap_scan.h"

namespace cow::memory {

// What was read since the start.
struct ScanCounters {
  uint64_t pagemap_pages = 0;  // entries
  uint64_t pagemap_reads = 0;  // system calls
  uint64_t scan_calls = 0;     // PAGEMAP_SCAN ioctls
  uint64_t frame_words = 0;    // words of kpageflags and kpagecount
  uint64_t frame_reads = 0;    // system calls
  uint64_t rests = 0;          // sleeps that gave a process its rest
  uint64_t windows_read_again = 0;
  uint64_t unstable_pages = 0;     // kept changing under the reads, left for the next pass
  uint64_t windows_unchanged = 0;  // nothing to compare: they read as at the look before

  void Add(const ScanCounters& other);
};

// The rest of a process between two holds of its mmap lock, where no other process is read meanwhile.
void SleepBriefly(ScanCounters& counters);

class MemberReader {
 public:
  // All outlive it.
  MemberReader(const Host& host, ScanCounters& counters, Member& member, const procfs::Pagemap& pagemap);

  Member& member() const { return *member_; }
  // False once a read has failed; why is in the member's `unread`.
  bool alive() const { return alive_; }

  // What it reads from now on is added to these.
  void CountIn(ScanCounters& counters) { counters_ = &counters; }
  // The member ended: it is not read any more.
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
  Member* member_;
  const procfs::Pagemap* pagemap_;
  size_t pages_;
  std::vector<PageRange> ranges_;  // to be read, ascending
  size_t next_range_ = 0;
  bool alive_ = true;
  uint64_t pages_since_rest_ = 0;
  std::chrono::steady_clock::time_point read_end_;
  std::vector<procfs::ScanRegion> regions_;
};

}  // namespace cow::memory
