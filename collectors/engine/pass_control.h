// How the caller of a pass steers it: budget, intervals, and its end.
#pragma once

#include <chrono>
#include <cstdint>

namespace cow::collectors {

// Asked at least every 10 ms, never while a kernel lock is held.
class PassControl {
 public:
  virtual ~PassControl() = default;
  // True abandons the pass at once. Asked amid a window, so it must not sleep. Any thread, several at a time.
  virtual bool MustStop() const { return false; }
  // Whether Continue has something to do. Asked before each step where several threads scan; must not sleep. Any
  // thread, several at a time.
  virtual bool MustPause() { return true; }
  // May sleep (CPU budget) and publish: all threads that scan pause meanwhile. False abandons the pass at once;
  // counters keep what was counted, and the next pass goes on with scans that were not over. By the thread that calls
  // RunPass.
  virtual bool Continue() = 0;
  // The interval under way. It grows in Continue only; the pass then brings the process list up to date, and goes on.
  // By the thread that calls RunPass.
  virtual uint64_t Interval() const { return 0; }
  // CPU time left in this interval; max(): no limit. By any scanning thread, one at a time.
  virtual std::chrono::nanoseconds Left() { return std::chrono::nanoseconds::max(); }
  // The process list is that of a new interval, and Collect gives its values. `changed`: processes joined or left
  // families. By the thread that calls RunPass.
  virtual void Listed(bool /*changed*/) {}
};

}  // namespace cow::collectors
