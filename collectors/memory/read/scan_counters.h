// Counts the cost of reading, and sleeps for the rest between two reads of a process. Plain values.
#pragma once

#include <cstdint>

namespace cow::memory {

// Totals since the start.
struct ScanCounters {
  uint64_t pagemap_pages = 0;  // entries
  uint64_t pagemap_reads = 0;  // system calls
  uint64_t scan_calls = 0;     // PAGEMAP_SCAN ioctls
  uint64_t frame_words = 0;    // words of kpageflags and kpagecount
  uint64_t frame_reads = 0;    // system calls
  uint64_t rests = 0;          // sleeps that let a process rest
  uint64_t windows_read_again = 0;
  uint64_t unstable_pages = 0;     // kept changing while being read; left for the next pass
  uint64_t windows_unchanged = 0;  // equal to the last look, so not compared

  void Add(const ScanCounters& other);
};

// Lets a process rest between two holds of its mmap lock. Call it if no other process is read meanwhile.
void SleepBriefly(ScanCounters& counters);

}  // namespace cow::memory
