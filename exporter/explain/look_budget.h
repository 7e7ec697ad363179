// The CPU budget of the explain API: a small share of one CPU, separate from the budget of scanning.
//
// A look always runs to its end. If it exceeds the budget, the next look waits until the debt is repaid. Unused budget
// accumulates up to one second of CPU time. One thread at a time.
#pragma once

#include <algorithm>
#include <chrono>

namespace cow::exporter {

class LookBudget {
 public:
  using Time = std::chrono::steady_clock::time_point;

  static constexpr int kShare = 20;  // one kShare-th of a CPU
  static constexpr std::chrono::nanoseconds kMost = std::chrono::seconds(1);

  explicit LookBudget(Time now) : filled_at_(now) {}

  // Time until the next look may begin; 0: now.
  [[nodiscard]] std::chrono::nanoseconds Wait(Time now) {
    left_ = std::min(left_ + (now - filled_at_) / kShare, kMost);
    filled_at_ = now;
    return left_.count() > 0 ? std::chrono::nanoseconds(0) : (std::chrono::nanoseconds(1) - left_) * kShare;
  }
  // Charges the CPU time of a look.
  void Spend(std::chrono::nanoseconds cpu) { left_ -= cpu; }

 private:
  std::chrono::nanoseconds left_ = kMost;
  Time filled_at_;
};

}  // namespace cow::exporter
