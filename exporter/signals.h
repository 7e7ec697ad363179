// Receives SIGTERM, SIGINT and SIGHUP in a thread of its own and passes them to the main thread. Ends the program if
// the main thread takes too long to end: a call can wait in the kernel, for example for a lock of a target or for a
// hung file system, and nothing else ends that wait. The program has no state to save.
#pragma once

#include <chrono>
#include <condition_variable>
#include <csignal>
#include <functional>
#include <mutex>
#include <stop_token>
#include <thread>

namespace cow::exporter {

class Signals {
 public:
  // Time from SIGTERM or SIGINT to the forced end.
  static constexpr std::chrono::milliseconds kPatience{700};

  // Blocks the signals in this thread, and in the threads and processes that it starts: create it before those. Calls
  // `on_forced` in the signal thread before it ends the program with status 0; `on_forced` must not block.
  explicit Signals(std::function<void()> on_forced);
  ~Signals();
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;

  // Starts the thread. Signals that came before wait for it.
  void Start();

  // Waits for the next signal: SIGHUP, or SIGTERM or SIGINT, which end the program. Several SIGHUP can become one. One
  // thread.
  int Wait();

 private:
  void Run(const std::stop_token& stop);

  const std::function<void()> on_forced_;
  sigset_t signals_{};
  std::mutex mutex_;
  std::condition_variable_any changed_;
  bool reload_ = false;
  int end_ = 0;  // the signal that ends the program, 0: none yet
  std::jthread thread_;
};

}  // namespace cow::exporter
