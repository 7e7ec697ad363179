// Runs one function on several threads: the calling thread and helpers. Helpers live as long as this object and sleep
// between two calls.
//
// Thread rule: call Run and GrowTo from one thread. Any thread may call CpuTime, but not during GrowTo.
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
  // `threads` includes the calling thread, so 1 starts none. Throws std::system_error if a thread can't be started.
  explicit WorkerThreads(size_t threads);
  ~WorkerThreads();
  WorkerThreads(const WorkerThreads&) = delete;
  WorkerThreads& operator=(const WorkerThreads&) = delete;

  // Grows the pool to at least `threads`. Call from Run's thread, never during Run. Throws like the constructor.
  void GrowTo(size_t threads);

  size_t threads() const { return helpers_.size() + 1; }

  // Calls work(0) on the calling thread and work(1) to work(wanted - 1) on helpers, limited to threads(). Returns when
  // all calls have returned; rethrows an exception of one of them.
  void Run(size_t wanted, const std::function<void(size_t thread)>& work);

  // Returns the CPU time of the helpers so far.
  std::chrono::nanoseconds CpuTime() const;

 private:
  void Help(const std::stop_token& stop, size_t thread);
  void Call(const std::function<void(size_t thread)>& work, size_t thread);

  std::mutex mutex_;
  std::condition_variable_any changed_;  // of the members below
  const std::function<void(size_t)>* work_ = nullptr;
  uint64_t calls_ = 0;  // of Run
  size_t wanted_ = 0;   // threads in the current call
  size_t running_ = 0;  // helpers in the current call
  std::exception_ptr thrown_;

  std::vector<clockid_t> clocks_;  // of the helpers
  std::vector<std::jthread> helpers_;
};

}  // namespace cow::collectors
