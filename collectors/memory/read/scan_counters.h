// What reading has cost so far, and the rest that a process gets between two reads. Plain values.
#pragma once

#include <cstdint>

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

}  // namespace cow::memory
