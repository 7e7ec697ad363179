// What a pass may do in tests: all it wants, or nothing.
#pragma once

#include <atomic>
#include <cstdint>

#include "collectors/engine.h"

namespace cow::test {

class NoControl : public collectors::PassControl {
 public:
  bool Continue() override { return true; }
};

// Ends a pass at its first step.
class Abandon : public collectors::PassControl {
 public:
  bool Continue() override { return false; }
};

// Ends a pass at its step of this number, counting also what is asked amid a window.
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
