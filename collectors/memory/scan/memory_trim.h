// Returns freed memory to the system. malloc keeps it even after a large family has ended, so the resident memory would
// stay at its highest value.
//
// Reads /proc/self/statm. Call it from the scanning thread.
#pragma once

#include <chrono>
#include <cstdint>

namespace cow::memory {

class MemoryTrim {
 public:
  // Call it after a pass. `used_bytes`: bytes booked with the budget. Trims if these have fallen or resident memory has
  // grown by some MiB since the last trim. Trimming takes at most 1 % of the time; a call without it takes
  // microseconds.
  void AfterPass(uint64_t used_bytes);

 private:
  using Clock = std::chrono::steady_clock;

  uint64_t most_used_bytes_ = 0;  // since the last time
  uint64_t resident_bytes_ = 0;   // after the last time
  Clock::time_point next_;
};

}  // namespace cow::memory
