#include "exporter/front/worker.h"

#include <chrono>
#include <utility>

#include "collectors/base/cpu_clock.h"

namespace cow::exporter {

Worker::Worker(size_t limit, double max_cpu)
    : limit_(limit), max_cpu_(max_cpu), thread_([this](const std::stop_token& stop) { Run(stop); }) {}

Worker::~Worker() = default;

bool Worker::Offer(Job job) {
  const std::lock_guard lock(mutex_);
  if (jobs_.size() >= limit_) return false;
  jobs_.push_back(std::move(job));
  offered_.notify_one();
  return true;
}

void Worker::Run(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  while (offered_.wait(lock, stop, [this] { return !jobs_.empty(); }) && !stop.stop_requested()) {
    const Job job = std::move(jobs_.front());
    lock.unlock();
    const auto begin = std::chrono::steady_clock::now();
    const std::chrono::duration<double> cpu_before = ThreadCpuTime();
    job();
    const auto time = (ThreadCpuTime() - cpu_before) / max_cpu_;
    lock.lock();
    jobs_.pop_front();
    offered_.wait_until(lock, stop, begin + std::chrono::duration_cast<std::chrono::nanoseconds>(time),
                        [] { return false; });
  }
}

}  // namespace cow::exporter
