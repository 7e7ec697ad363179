// Hands the families of one interval to the threads that scan, turn by turn, and lets all of them pause together when
// the caller of the pass wants to sleep or to publish.
//
// The calling thread is the first one: it alone calls PassControl::Continue, after the others have come to the end of
// their steps. Nothing is locked while a thread makes a step.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <vector>

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

  // `families` get their turns in this order. `control` outlives it.
  ScanTurns(PassControl& control, const std::vector<memory::Family*>& families, size_t threads);

  // Until the interval is over or no family waits. Throws what `scan` throws.
  void Run(WorkerThreads& workers, const Scan& scan);

  // Before each step of a turn. False: the turn is over.
  bool MayStep(Turn& turn);
  // The pass is abandoned: no thread begins another step.
  void Abandon();
  bool abandoned() const { return abandoned_; }
  // Serializes what threads do between two steps on what they share.
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
  const uint64_t interval_;  // under way
  const size_t threads_;
  bool progressed_ = false;  // in the interval: however short it is, it has one step at least
  std::atomic<bool> abandoned_ = false;
  std::atomic<bool> over_ = false;   // abandoned, or the interval is over
  std::atomic<bool> pause_ = false;  // a thread saw that Continue has something to do

  std::mutex mutex_;
  std::condition_variable changed_;  // of what follows
  ScanQueue queue_;
  size_t helpers_ = 0;  // at work
  size_t parked_ = 0;   // of them
  uint64_t pauses_ = 0;
};

}  // namespace cow::collectors
