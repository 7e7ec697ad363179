// Gives memory that was freed back to the system. malloc keeps it, also when a large family is gone: what stays
// resident would be the most that was ever needed.
//
// Of the scanning thread.
#pragma once

#include <chrono>
#include <cstdint>

namespace cow::memory {

class MemoryTrim {
 public:
  // After a pass. `used_bytes`: booked with the budget. Trims if that has fallen, or resident memory grown, by some MiB
  // since it did so last, and takes a hundredth of the time at most. Costs some microseconds otherwise.
  void AfterPass(uint64_t used_bytes);

 private:
  using Clock = std::chrono::steady_clock;

  uint64_t most_used_bytes_ = 0;  // since the last time
  uint64_t resident_bytes_ = 0;   // after the last time
  Clock::time_point next_;
};

}  // namespace cow::memory
