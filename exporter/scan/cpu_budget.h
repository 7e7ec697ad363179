// The CPU time that one interval may take. Knows no clock: it is handed the values of the scanning thread's CPU clock.
//
// What a long step took too much is taken off the next intervals, so the share holds on average. One thread.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace cow::exporter {

class CpuBudget {
 public:
  // 0 per interval: no limit.
  CpuBudget(std::chrono::nanoseconds per_interval, std::chrono::nanoseconds cpu_now)
      : per_interval_(per_interval), end_(cpu_now + per_interval) {}

  [[nodiscard]] bool Limited() const { return per_interval_.count() > 0; }

  // Another share from now on; what was used of the interval under way stays used.
  void Change(std::chrono::nanoseconds per_interval, std::chrono::nanoseconds cpu_now) {
    const std::chrono::nanoseconds most = cpu_now + per_interval;
    end_ = Limited() ? std::min(end_ + (per_interval - per_interval_), most) : most;
    per_interval_ = per_interval;
  }

  // `count` intervals have begun since the last call.
  void Open(int64_t count, std::chrono::nanoseconds cpu_now) {
    end_ = std::min(end_ + count * per_interval_, cpu_now + per_interval_);
  }

  // So much of what was used does not count.
  void Refund(std::chrono::nanoseconds cpu) { end_ += cpu; }

  // Not positive when it is used up.
  [[nodiscard]] std::chrono::nanoseconds Remaining(std::chrono::nanoseconds cpu_now) const { return end_ - cpu_now; }

 private:
  std::chrono::nanoseconds per_interval_;
  std::chrono::nanoseconds end_;  // on the CPU clock
};

}  // namespace cow::exporter
