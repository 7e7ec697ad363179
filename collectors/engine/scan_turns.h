// Hands the families of one interval to the scanning threads, turn by turn. Pauses all threads together when the caller
// of the pass wants to sleep or to publish.
//
// The calling thread is thread 0. It alone calls PassControl::Continue, once the others have finished their steps. No
// thread holds a lock during a step.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "collectors/engine/pass_control.h"
#include "collectors/engine/worker_threads.h"
#include "collectors/memory/family/family.h"

namespace cow::collectors {

// Queues the families of one interval and shares the interval's CPU time among them.
//
// Each turn gets an equal share of the time left. A family that needs less leaves the rest to the others; one that
// needs more queues again behind them. So a large family never keeps a small one from being read. Reads no clock; one
// thread at a time.
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

class ScanTurns {
 public:
  struct Turn {
    memory::Family* family = nullptr;
    size_t thread = 0;
    std::optional<std::chrono::nanoseconds> end;  // on the thread's CPU clock
    bool stepped = false;
  };
  // Makes steps while MayStep allows them. True if the family's scan is over.
  using Scan = std::function<bool(Turn& turn)>;

  // Both must outlive this object.
  ScanTurns(PassControl& control, ScanQueue& queue) : control_(control), queue_(queue), interval_(control.Interval()) {}

  // Scans with at most `threads` threads until the interval is over or no family waits. Throws what `scan` throws.
  void Run(WorkerThreads& workers, size_t threads, const Scan& scan);

  // Call it before each step of a turn. False: the turn is over.
  bool MayStep(Turn& turn);
  // Abandons the pass: no thread begins another step.
  void Abandon();
  bool abandoned() const { return abandoned_; }
  // Guards what threads share between two steps.
  std::mutex& mutex() { return mutex_; }

 private:
  std::optional<Turn> Take(size_t thread);
  void Return(const Turn& turn, bool finished);
  void AskControl();
  void Lead();
  void Park();
  void AwaitHelpers();
  void Leave();

  PassControl& control_;
  ScanQueue& queue_;
  const uint64_t interval_;  // the current one
  size_t threads_ = 1;
  bool progressed_ = false;  // a step was made: even the shortest interval has one
  std::atomic<bool> abandoned_ = false;
  std::atomic<bool> over_ = false;   // abandoned, or the interval is over
  std::atomic<bool> pause_ = false;  // a thread saw that Continue has something to do

  std::mutex mutex_;
  std::condition_variable changed_;  // of the members below
  size_t helpers_ = 0;               // threads at work besides thread 0
  size_t parked_ = 0;                // helpers that wait for the end of a pause
  uint64_t pauses_ = 0;
};

}  // namespace cow::collectors
