// Bounds the CPU time of each interval. The caller passes in the value of the scanning threads' CPU clock.
//
// Deducts an overrun from the next intervals, so the share holds on average. One thread.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace cow::exporter {

class CpuBudget {
 public:
  // `per_interval` 0 sets no limit.
  CpuBudget(std::chrono::nanoseconds per_interval, std::chrono::nanoseconds cpu_now)
      : per_interval_(per_interval), end_(cpu_now + per_interval) {}

  [[nodiscard]] bool Limited() const { return per_interval_.count() > 0; }

  // Changes the share. Time used in the current interval stays used.
  void Change(std::chrono::nanoseconds per_interval, std::chrono::nanoseconds cpu_now) {
    const std::chrono::nanoseconds most = cpu_now + per_interval;
    end_ = Limited() ? std::min(end_ + (per_interval - per_interval_), most) : most;
    per_interval_ = per_interval;
  }

  // `count` intervals have begun since the last call.
  void Open(int64_t count, std::chrono::nanoseconds cpu_now) {
    end_ = std::min(end_ + count * per_interval_, cpu_now + per_interval_);
  }

  // Excludes CPU time that was used from the budget.
  void Refund(std::chrono::nanoseconds cpu) { end_ += cpu; }

  // CPU time left; 0 or negative when it is used up.
  [[nodiscard]] std::chrono::nanoseconds Remaining(std::chrono::nanoseconds cpu_now) const { return end_ - cpu_now; }

 private:
  std::chrono::nanoseconds per_interval_;
  std::chrono::nanoseconds end_;  // on the CPU clock
};

}  // namespace cow::exporter
