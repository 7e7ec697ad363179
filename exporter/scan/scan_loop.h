// Runs the scanning thread: starts passes, keeps them within their CPU budget and publishes snapshots.
//
// With an interval, passes start on its ticks and never overlap. A pass that spans intervals publishes at each tick,
// after it listed the processes again. The next pass starts at the first tick after its end. Between ticks the loop
// looks for new forks. If a known process forked, a pass starts early, subject to early_distance and the budget.
//
// With interval 0, each scrape wants a pass that starts after the scrape arrived. Scrapes that arrive during a pass
// share the next one. New options end a pass at its next step; the pass then starts over.
//
// Listing processes, publishing and looking for forks are overhead. The budget is charged for overhead only up to half
// of an interval's share, so a small budget on a busy host never stops the reading of pages.
//
// CPU time includes the scanning thread and its helpers. Call Start and Stop from one thread, everything else from any.
// Nothing throws after Start: the loop logs and counts exceptions of passes, looks for forks and publications, and
// continues. It logs each reason once per hour while passes fail, and the recovery.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "exporter/log/log.h"
#include "exporter/scan/cpu_budget.h"
#include "exporter/scan/failures.h"
#include "exporter/scan/pass_runner.h"
#include "exporter/scan/publisher.h"
#include "exporter/scan/statistics.h"
#include "exporter/snapshot/snapshot.h"

namespace cow::exporter {

struct ScanLoopOptions {
  std::chrono::nanoseconds interval{0};  // 0: run a pass at each scrape, without a budget
  double max_cpu = 0;                    // share of one CPU for all scanning threads; 0: no limit
  // Minimum time between two looks for new forks. Looks take at most a hundredth of a CPU and a tenth of the budget.
  std::chrono::nanoseconds look_every = std::chrono::milliseconds(200);
  // Minimum time between the end of a pass and an early start of the next.
  std::chrono::nanoseconds early_distance = std::chrono::milliseconds(500);
  size_t threads = 1;  // scanning threads
};

// What the loop tells. Start and the scanning thread call these functions; they must not block.
struct ScanEvents {
  std::function<void(const std::shared_ptr<const Snapshot>& snapshot)> published = [](const auto&) {};
  std::function<void(uint64_t pass)> passed = [](uint64_t) {};  // this pass and all before it have ended
};

class ScanLoop {
 public:
  using Clock = std::chrono::steady_clock;

  // Start and the scanning thread call `add_self_metrics`. `log` must outlive the loop.
  ScanLoop(std::unique_ptr<PassRunner> runner, ScanLoopOptions options, AddSelfMetrics add_self_metrics, Log& log,
           ScanEvents events = {});
  ~ScanLoop();
  ScanLoop(const ScanLoop&) = delete;
  ScanLoop& operator=(const ScanLoop&) = delete;

  // Publishes a first snapshot, made without a pass, and starts the thread.
  void Start();
  // Ends the current pass at its next step and wakes all waiting calls.
  void Stop();

  // True once a pass has completed. Always true at interval 0, where each scrape runs a pass.
  [[nodiscard]] bool Ready() const { return !Periodic() || passed_once_.load(); }

  // Changes the options and returns when they are in force. Restarts a pass under way. Returns an error and changes
  // nothing if the engine rejects the options or Stop is called first.
  std::optional<std::string> Reconfigure(collectors::EngineOptions engine, ScanLoopOptions scan);
  // Publishes the latest values with current self metrics and returns afterwards.
  void Refresh();

  // The latest snapshot; null before Start.
  [[nodiscard]] std::shared_ptr<const Snapshot> Latest() const { return publisher_.Latest(); }
  // The families of the latest snapshot.
  [[nodiscard]] std::shared_ptr<const ProcessFamilies> Families() const { return publisher_.Families(); }

  // True if the scanning thread finished a step within this time or is idle.
  [[nodiscard]] bool IsAlive(std::chrono::nanoseconds within) const {
    return Clock::now() - last_step_.load() < within;
  }

  // At interval 0, asks for a pass that starts after this call. Returns its number for ScanEvents::passed, or 0 if the
  // latest snapshot serves.
  uint64_t WantPass();

 private:
  class Control;

  static constexpr Clock::time_point kIdle = Clock::time_point::max();  // value of last_step_

  // A request of another thread to the scanning thread.
  struct Request {
    std::optional<collectors::EngineOptions> engine;  // empty: only publish again
    ScanLoopOptions scan;
    bool done = false;
    std::optional<std::string> error;
  };

  [[nodiscard]] bool Periodic() const { return periodic_; }
  // Queues the request and waits for it, until Stop.
  void Submit(const std::shared_ptr<Request>& request);
  // Serves the queued requests. Without `with_options`, stops at a request for new options and returns false.
  bool ServeRequests(bool with_options);
  void Apply(Request& request);
  void RunPeriodically();
  void RunOnDemand();
  void RunPass();
  // Returns false if the pass did not complete.
  bool TryPass();
  // Returns false if the look failed.
  bool LookForForks();
  void PublishPass();
  void Publish();
  // Whether ContinuePass has something to do. Any scanning thread.
  bool PauseIsDue();
  bool ContinuePass();
  [[nodiscard]] std::chrono::nanoseconds Left() const;
  void ListedProcesses(bool changed);
  // Counts CPU time that was not spent on reading pages, and refunds it beyond half of the budget.
  void ChargeOverhead(std::chrono::nanoseconds cpu);
  // The pause after a look for forks that took `cpu`.
  [[nodiscard]] std::chrono::nanoseconds PauseAfterLook(std::chrono::nanoseconds cpu) const;
  // Total CPU time of all scanning threads.
  std::chrono::nanoseconds CpuTime() const;
  // Looks for forks and runs early passes until the next tick or new options. Returns false on Stop.
  bool WatchForForks();
  bool MayPassEarly() const;
  // Waits until `end` or a request. Returns false on Stop.
  bool WaitUntil(Clock::time_point end);
  void OpenNextInterval();

  const std::unique_ptr<PassRunner> runner_;
  Log& log_;
  Publisher publisher_;
  const ScanEvents events_;
  std::atomic<bool> passed_once_ = false;
  std::atomic<bool> periodic_;
  std::atomic<bool> requested_ = false;  // requests_ is not empty
  std::atomic<Clock::time_point> last_step_ = kIdle;

  // Used by the scanning thread; during a pass, by the thread that is in Continue.
  ScanLoopOptions options_;
  uint64_t options_changes_ = 0;
  clockid_t scan_clock_ = 0;  // CPU clock of the scanning thread
  CpuBudget budget_;
  Clock::time_point interval_end_;
  uint64_t interval_ = 0;                    // number of the current interval
  uint64_t pass_interval_ = 0;               // interval in which the pass began
  std::chrono::nanoseconds listing_cpu_{0};  // CPU time at the start of listing processes
  std::chrono::nanoseconds overhead_{0};     // CPU time of this interval not spent on reading pages
  Clock::time_point next_budget_check_;
  Clock::time_point next_look_;
  Clock::time_point pass_end_;
  std::chrono::nanoseconds pass_cpu_{0};  // of the last pass
  ScanStatistics statistics_;
  ScanFailures failures_;

  std::mutex mutex_;
  std::condition_variable_any changed_;  // anything that mutex_ guards
  uint64_t passes_wanted_ = 0;           // number of the latest pass that a scrape waits for
  uint64_t passes_started_ = 0;
  std::deque<std::shared_ptr<Request>> requests_;

  std::stop_source stop_;
  std::jthread thread_;
};

}  // namespace cow::exporter
