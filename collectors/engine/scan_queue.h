// The families that wait for their turn in one interval, and how much of the interval's CPU time each gets.
//
// Each gets an equal share of what is left. A family that needs less leaves the rest to the others, one that needs more
// waits behind them for another turn. So a small family is read in every interval, however large another is. Knows no
// clock; one thread at a time.
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

  // Less than this is not worth a turn.
  static constexpr Nanoseconds kLeast = std::chrono::microseconds(200);
  static constexpr Nanoseconds kNoLimit = Nanoseconds::max();

  void Fill(const std::vector<memory::Family*>& families) { waiting_.assign(families.begin(), families.end()); }
  size_t size() const { return waiting_.size(); }

  // The next family, and the CPU time of its turn when so much of the interval's is `left`. None where nobody waits.
  std::pair<memory::Family*, Nanoseconds> Take(Nanoseconds left) {
    if (waiting_.empty()) return {nullptr, kNoLimit};
    const size_t sharers = waiting_.size() + at_work_;
    memory::Family* family = waiting_.front();
    waiting_.pop_front();
    ++at_work_;
    if (left == kNoLimit) return {family, kNoLimit};
    return {family, std::max(left / static_cast<int64_t>(sharers), kLeast)};
  }
  // After its turn; `finished`: its scan is over.
  void Return(memory::Family* family, bool finished) {
    --at_work_;
    if (!finished) waiting_.push_back(family);
  }

 private:
  std::deque<memory::Family*> waiting_;
  size_t at_work_ = 0;
};

}  // namespace cow::collectors
