// Lets the caller of a pass control its budget, its intervals and its end.
#pragma once

#include <chrono>
#include <cstdint>

namespace cow::collectors {

// The pass calls these at least every 10 ms, never while it holds a kernel lock.
class PassControl {
 public:
  virtual ~PassControl() = default;
  // True abandons the pass at once. Called amid a window, so it must not sleep. Any thread, several at a time.
  virtual bool MustStop() const { return false; }
  // True if Continue has something to do. Called before each step if several threads scan; must not sleep. Any thread,
  // several at a time.
  virtual bool MustPause() { return true; }
  // May sleep (CPU budget) and publish; all scanning threads pause meanwhile. False abandons the pass at once: counters
  // keep their values, and the next pass continues unfinished scans. Called by RunPass's thread.
  virtual bool Continue() = 0;
  // The current interval. Only Continue may increase it; the pass then updates the process list and continues. Called
  // by RunPass's thread.
  virtual uint64_t Interval() const { return 0; }
  // CPU time left in this interval; max(): no limit. Any scanning thread, one at a time.
  virtual std::chrono::nanoseconds Left() { return std::chrono::nanoseconds::max(); }
  // Called when the process list of a new interval is in use; Collect returns values for it. `changed`: processes
  // joined or left families. Called by RunPass's thread.
  virtual void Listed(bool /*changed*/) {}
};

}  // namespace cow::collectors
