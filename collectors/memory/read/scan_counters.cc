#include "collectors/memory/read/scan_counters.h"

#include <ctime>

namespace cow::memory {

void ScanCounters::Add(const ScanCounters& other) {
  pagemap_pages += other.pagemap_pages;
  pagemap_reads += other.pagemap_reads;
  scan_calls += other.scan_calls;
  frame_words += other.frame_words;
  frame_reads += other.frame_reads;
  rests += other.rests;
  windows_read_again += other.windows_read_again;
  unstable_pages += other.unstable_pages;
  windows_unchanged += other.windows_unchanged;
}

void SleepBriefly(ScanCounters& counters) {
  // The default timer slack extends this to about 50 µs.
  const timespec time{0, 1000};
  nanosleep(&time, nullptr);
  ++counters.rests;
}

}  // namespace cow::memory
