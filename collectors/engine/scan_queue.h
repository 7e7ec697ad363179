// Queues the families of one interval and shares the interval's CPU time among them.
//
// Each turn gets an equal share of the time left. A family that needs less leaves the rest to the others; one that
// needs more queues again behind them. So a large family never keeps a small one from being read. Reads no clock; one
// thread at a time.
#pragma once

#include <chrono>
#include <cstddef>
#include <deque>
#include <utility>
#include <vector>

#include "collectors/memory/family/family.h"

namespace cow::collectors {

class ScanQueue {
 public:
  using Nanoseconds = std::chrono::nanoseconds;

  // The shortest turn.
  static constexpr Nanoseconds kLeast = std::chrono::microseconds(200);
  static constexpr Nanoseconds kNoLimit = Nanoseconds::max();

  // Call it while no family has its turn.
  void Fill(const std::vector<memory::Family*>& families) {
    waiting_.assign(families.begin(), families.end());
    at_work_ = 0;
  }
  size_t size() const { return waiting_.size(); }

  // Returns the next family and the CPU time of its turn. `left`: CPU time left in the interval. Null if none waits.
  std::pair<memory::Family*, Nanoseconds> Take(Nanoseconds left) {
    if (waiting_.empty()) return {nullptr, kNoLimit};
    const size_t sharers = waiting_.size() + at_work_;
    memory::Family* family = waiting_.front();
    waiting_.pop_front();
    ++at_work_;
    if (left == kNoLimit) return {family, kNoLimit};
    return {family, std::max(left / static_cast<int64_t>(sharers), kLeast)};
  }
  // Call it after a turn. `finished`: the family's scan is over.
  void Return(memory::Family* family, bool finished) {
    --at_work_;
    if (!finished) waiting_.push_back(family);
  }

 private:
  std::deque<memory::Family*> waiting_;
  size_t at_work_ = 0;
};

}  // namespace cow::collectors
