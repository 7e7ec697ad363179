// Threads that do one thing together: the calling one and, where more are asked for, others that are kept for this
// object's life and sleep between two calls.
//
// Run is for one thread, CpuTime for any while GrowTo is not called.
#pragma once

#include <ctime>

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <stop_token>
#include <thread>
#include <vector>

namespace cow::collectors {

class WorkerThreads {
 public:
  // `threads`: the calling one among them, so that 1 starts none. Throws std::system_error where one can't be started.
  explicit WorkerThreads(size_t threads);
  ~WorkerThreads();
  WorkerThreads(const WorkerThreads&) = delete;
  WorkerThreads& operator=(const WorkerThreads&) = delete;

  // Makes it so many at least. Between two calls of Run, of that thread; throws as the constructor.
  void GrowTo(size_t threads);

  size_t threads() const { return helpers_.size() + 1; }

  // Calls work(i) on the calling thread with 0 and on others with 1 up to `wanted` - 1 (or as many as there are), and
  // returns when all of them have. Throws what one of them threw, after that.
  void Run(size_t wanted, const std::function<void(size_t thread)>& work);

  // CPU time so far of all but the calling thread.
  std::chrono::nanoseconds CpuTime() const;

 private:
  void Help(const std::stop_token& stop, size_t thread);
  void Call(const std::function<void(size_t thread)>& work, size_t thread);

  std::mutex mutex_;
  std::condition_variable_any changed_;  // of anything that mutex_ guards
  const std::function<void(size_t)>* work_ = nullptr;
  uint64_t calls_ = 0;  // of Run
  size_t wanted_ = 0;   // threads, in the call under way
  size_t running_ = 0;  // helpers, in the call under way
  std::exception_ptr thrown_;

  std::vector<clockid_t> clocks_;  // of the helpers
  std::vector<std::jthread> helpers_;
};

}  // namespace cow::collectors
