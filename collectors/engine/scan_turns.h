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
#include <functional>
#include <mutex>
#include <optional>

#include "collectors/engine/pass_control.h"
#include "collectors/engine/scan_queue.h"
#include "collectors/engine/worker_threads.h"
#include "collectors/memory/family/family.h"

namespace cow::collectors {

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
