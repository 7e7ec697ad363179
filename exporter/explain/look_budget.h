// The CPU time of the explain API: a small share of one CPU of its own, so that requests take nothing from scanning.
//
// A look that begins runs to its end. What it took too much is a debt: the next one waits until it is paid. Up to a
// second's worth of CPU time is saved up while nobody asks. Knows no clock. One thread at a time.
#pragma once

#include <algorithm>
#include <chrono>

namespace cow::exporter {

class LookBudget {
 public:
  using Time = std::chrono::steady_clock::time_point;

  // One part in so many of a CPU.
  static constexpr int kShare = 20;
  static constexpr std::chrono::nanoseconds kMost = std::chrono::seconds(1);

  explicit LookBudget(Time now) : filled_at_(now) {}

  // The time until the next look may begin; 0: now.
  [[nodiscard]] std::chrono::nanoseconds Wait(Time now) {
    left_ = std::min(left_ + (now - filled_at_) / kShare, kMost);
    filled_at_ = now;
    return left_.count() > 0 ? std::chrono::nanoseconds(0) : (std::chrono::nanoseconds(1) - left_) * kShare;
  }
  // What a look took.
  void Spend(std::chrono::nanoseconds cpu) { left_ -= cpu; }

 private:
  std::chrono::nanoseconds left_ = kMost;
  Time filled_at_;
};

}  // namespace cow::exporter
