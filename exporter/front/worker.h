// A thread that runs jobs one after another, within a share of one CPU. Any thread may offer jobs.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <stop_token>
#include <thread>

namespace cow::exporter {

class Worker {
 public:
  using Job = std::function<void()>;  // must not throw

  // At most `limit` jobs wait or run. After each job, the thread rests until its CPU time is `max_cpu` of the time
  // since the job began. Throws std::system_error if no thread can start.
  Worker(size_t limit, double max_cpu);
  // Waits for the job that runs and drops those that wait.
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // Returns false if there are too many jobs.
  bool Offer(Job job);

 private:
  void Run(const std::stop_token& stop);

  const size_t limit_;
  const double max_cpu_;
  std::mutex mutex_;
  std::condition_variable_any offered_;
  std::deque<Job> jobs_;  // the first one runs
  std::jthread thread_;
};

}  // namespace cow::exporter
