// PassControl for tests: without limits, or ending the pass.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>

#include "collectors/base/cpu_clock.h"
#include "collectors/engine/pass_control.h"

namespace cow::test {

class NoControl : public collectors::PassControl {
 public:
  bool Continue() override { return true; }
};

// Measures the steps of a pass by one thread, on its CPU clock.
class StepWatch : public collectors::PassControl {
 public:
  bool Continue() override {
    const std::chrono::nanoseconds now = ThreadCpuTime();
    longest_ = std::max(longest_, now - begun_);
    begun_ = now;
    ++steps_;
    return true;
  }
  uint64_t steps() const { return steps_; }
  std::chrono::duration<double, std::milli> longest() const { return longest_; }

 private:
  std::chrono::nanoseconds begun_ = ThreadCpuTime();
  std::chrono::nanoseconds longest_{0};
  uint64_t steps_ = 0;
};

// Ends a pass at its first step.
class Abandon : public collectors::PassControl {
 public:
  bool Continue() override { return false; }
};

// Ends a pass at this step; calls within a window count too.
class AbandonAfter : public collectors::PassControl {
 public:
  explicit AbandonAfter(uint64_t steps) : steps_(steps) {}
  bool Continue() override { return !MustStop(); }
  bool MustStop() const override { return taken_++ >= steps_; }
  uint64_t taken() const { return taken_; }

 private:
  uint64_t steps_;
  mutable std::atomic<uint64_t> taken_ = 0;
};

}  // namespace cow::test
