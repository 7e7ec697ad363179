#include "collectors/engine/scan_turns.h"

#include <algorithm>

#include "collectors/base/cpu_clock.h"

namespace cow::collectors {

void ScanTurns::Run(WorkerThreads& workers, size_t threads, const Scan& scan) {
  threads_ = std::max<size_t>(std::min(queue_.size(), threads), 1);
  helpers_ = threads_ - 1;
  workers.Run(threads_, [&](size_t thread) {
    try {
      while (auto turn = Take(thread)) Return(*turn, scan(*turn));
    } catch (...) {
      Abandon();
      thread == 0 ? AwaitHelpers() : Leave();
      throw;
    }
    thread == 0 ? AwaitHelpers() : Leave();
  });
}

std::optional<ScanTurns::Turn> ScanTurns::Take(size_t thread) {
  const std::lock_guard lock(mutex_);
  if (over_) return std::nullopt;
  const auto [family, time] = queue_.Take(control_.Left());
  if (family == nullptr) return std::nullopt;
  Turn turn{family, thread, std::nullopt};
  if (time != ScanQueue::kNoLimit) turn.end = ThreadCpuTime() + time;
  return turn;
}

void ScanTurns::Return(const Turn& turn, bool finished) {
  const std::lock_guard lock(mutex_);
  queue_.Return(turn.family, finished);
}

bool ScanTurns::MayStep(Turn& turn) {
  if (over_ || (turn.stepped && turn.end && ThreadCpuTime() >= *turn.end)) return false;
  turn.stepped = true;
  if (threads_ == 1) {
    AskControl();
    return !over_;
  }
  if (!pause_ && control_.MustPause()) pause_ = true;
  if (pause_) turn.thread == 0 ? Lead() : Park();
  return !over_;
}

void ScanTurns::AskControl() {
  if (over_) return;
  if (!control_.Continue()) abandoned_ = true;
  const bool interval_over = progressed_ && control_.Interval() != interval_;
  progressed_ = true;
  over_ = abandoned_ || interval_over;
}

void ScanTurns::Abandon() {
  const std::lock_guard lock(mutex_);
  abandoned_ = true;
  over_ = true;
}

// Called by thread 0: calls Continue once all helpers are parked, then releases them.
void ScanTurns::Lead() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return parked_ == helpers_; });
  if (pause_) AskControl();
  pause_ = false;
  parked_ = 0;
  ++pauses_;
  changed_.notify_all();
}

void ScanTurns::Park() {
  std::unique_lock lock(mutex_);
  if (!pause_) return;
  const uint64_t before = pauses_;
  ++parked_;
  changed_.notify_all();
  changed_.wait(lock, [this, before] { return pauses_ != before; });
}

// Called by thread 0 when no family waits.
void ScanTurns::AwaitHelpers() {
  while (true) {
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return helpers_ == 0 || (parked_ == helpers_ && pause_); });
      if (helpers_ == 0) return;
    }
    Lead();
  }
}

void ScanTurns::Leave() {
  const std::lock_guard lock(mutex_);
  --helpers_;
  changed_.notify_all();
}

}  // namespace cow::collectors
