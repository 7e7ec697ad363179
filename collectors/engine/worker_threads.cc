#include "collectors/engine/worker_threads.h"

#include <pthread.h>

#include <algorithm>
#include <system_error>
#include <utility>

namespace cow::collectors {

WorkerThreads::WorkerThreads(size_t threads) { GrowTo(threads); }

void WorkerThreads::GrowTo(size_t threads) {
  for (size_t thread = this->threads(); thread < threads; ++thread) {
    helpers_.emplace_back([this, thread](const std::stop_token& stop) { Help(stop, thread); });
    clockid_t clock{};
    const int error = pthread_getcpuclockid(helpers_.back().native_handle(), &clock);
    if (error != 0) throw std::system_error(error, std::generic_category(), "CPU clock of a thread");
    clocks_.push_back(clock);
  }
}

WorkerThreads::~WorkerThreads() = default;

void WorkerThreads::Call(const std::function<void(size_t thread)>& work, size_t thread) {
  try {
    work(thread);
  } catch (...) {
    const std::lock_guard lock(mutex_);
    thrown_ = std::current_exception();
  }
}

void WorkerThreads::Help(const std::stop_token& stop, size_t thread) {
  uint64_t seen = 0;
  std::unique_lock lock(mutex_);
  while (changed_.wait(lock, stop, [&] { return calls_ != seen; })) {
    seen = calls_;
    if (thread >= wanted_) continue;
    const std::function<void(size_t)>& work = *work_;
    lock.unlock();
    Call(work, thread);
    lock.lock();
    if (--running_ == 0) changed_.notify_all();
  }
}

void WorkerThreads::Run(size_t wanted, const std::function<void(size_t thread)>& work) {
  wanted = std::min(wanted, threads());
  if (wanted <= 1) {
    work(0);
    return;
  }
  {
    const std::lock_guard lock(mutex_);
    work_ = &work;
    wanted_ = wanted;
    running_ = wanted - 1;
    ++calls_;
  }
  changed_.notify_all();
  Call(work, 0);
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return running_ == 0; });
  if (thrown_) std::rethrow_exception(std::exchange(thrown_, nullptr));
}

std::chrono::nanoseconds WorkerThreads::CpuTime() const {
  std::chrono::nanoseconds sum{0};
  for (const clockid_t clock : clocks_) {
    timespec time{};
    clock_gettime(clock, &time);
    sum += std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
  }
  return sum;
}

}  // namespace cow::collectors
