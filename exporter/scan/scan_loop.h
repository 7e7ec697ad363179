// The scanning thread: starts passes, keeps them within their CPU budget, publishes a snapshot of each.
//
// With an interval, passes start on its ticks and never overlap; a pass that spans intervals publishes at each tick,
// when it has listed the processes again, and the next pass starts at the first tick after it. Between ticks it looks
// for new forks; where a known process forked, a pass starts early, as often as its distance and the budget allow.
// Without an interval, each scrape asks for a pass that starts after it arrived; all that arrive while one runs share
// the next. New options end a pass at its next step; it then begins anew.
//
// Listing processes, publishing and looking for forks may use half of an interval's budget; what they need beyond that
// is not taken off what reading pages may use, so that a small budget and a busy host never stop the reading.
//
// CPU seconds are those of the scanning thread and of those that help it (CLOCK_THREAD_CPUTIME_ID). Start and Stop are
// for one thread, the rest for any. Nothing throws after Start: what a pass, a look for forks or a publication throws
// is logged and counted, and the next one is tried in its turn. Each reason is logged once an hour while passes fail,
// and then that passes are completed again.
#pragma once

#include <array>
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
#include <string_view>
#include <thread>
#include <vector>

#include "collectors/metrics.h"
#include "exporter/log/log.h"
#include "exporter/log/told_once.h"
#include "exporter/scan/cpu_budget.h"
#include "exporter/scan/group_history.h"
#include "exporter/scan/pass_runner.h"
#include "exporter/scan/snapshot.h"

namespace cow::exporter {

struct ScanLoopOptions {
  std::chrono::nanoseconds interval{0};  // 0: a pass at each scrape, without a budget
  double max_cpu = 0;                    // share of one CPU for all that scan, 0: no limit
  // Time between two looks for new forks; more where the looks would take more than a hundredth of a CPU or a tenth of
  // the budget.
  std::chrono::nanoseconds look_every = std::chrono::milliseconds(200);
  // No pass starts early within this time of the end of another.
  std::chrono::nanoseconds early_distance = std::chrono::milliseconds(500);
  size_t threads = 1;  // that scan
};

// Why a pass, or another step of the scanning thread, failed.
enum class ScanFailure : size_t {
  kMemory,     // an allocation failed
  kProcesses,  // the processes could not be listed
  kError,      // anything else
};
inline constexpr std::array<std::string_view, 3> kScanFailures{"memory", "processes", "error"};

struct ScanStatistics {
  std::optional<std::chrono::duration<double>> last_duration;  // wall time of the last completed pass
  std::chrono::duration<double> cpu{0};                        // of all that scan, so far
  std::optional<uint64_t> early_passes;                        // that did not wait for their tick; none without ticks
  std::array<uint64_t, kScanFailures.size()> failures{};       // by reason
};

// CPU time of the calling thread.
std::chrono::nanoseconds ThreadCpuTime();

class ScanLoop {
 public:
  using Clock = std::chrono::steady_clock;
  // Appends the exporter's own families; called by the scanning thread and by Start.
  using AddSelfMetrics = std::function<void(const ScanStatistics&, collectors::MetricWriter&)>;

  // `log` outlives the loop.
  ScanLoop(std::unique_ptr<PassRunner> runner, ScanLoopOptions options, AddSelfMetrics add_self_metrics, Log& log);
  ~ScanLoop();
  ScanLoop(const ScanLoop&) = delete;
  ScanLoop& operator=(const ScanLoop&) = delete;

  // Publishes what is known before any pass and starts the thread.
  void Start();
  // Ends a pass at its next step and wakes everyone who waits in Scrape.
  void Stop();

  // Whether the values of a whole pass are there; always at interval 0, where a scrape makes them.
  [[nodiscard]] bool Ready() const { return !Periodic() || passed_once_.load(); }

  // Other options from now on, as Engine::Reconfigure; returns when they are in force. A pass under way is abandoned
  // and begun anew. Returns why they can't be, and then nothing is changed; also if Stop comes first.
  std::optional<std::string> Reconfigure(collectors::EngineOptions engine, ScanLoopOptions scan);
  // Publishes the latest values anew, with what AddSelfMetrics adds now, and returns then.
  void Refresh();

  // The latest snapshot, as it is.
  [[nodiscard]] std::shared_ptr<const Snapshot> Latest() const { return snapshots_.Latest(); }

  // The groups of the latest snapshot.
  [[nodiscard]] std::vector<GroupSummary> Groups() const { return history_.Groups(); }

  // Whether the scanning thread has come to the end of a step within this time, or waits for something to do.
  [[nodiscard]] bool GoesOn(std::chrono::nanoseconds within) const { return Clock::now() - last_step_.load() < within; }

  // The latest snapshot; at interval 0 that of a pass which started after this call, unless `deadline` or Stop come
  // first.
  std::shared_ptr<const Snapshot> Scrape(std::optional<Clock::time_point> deadline);

 private:
  class Control;

  // In place of the time of the last step.
  static constexpr Clock::time_point kWaits = Clock::time_point::max();

  // What another thread wants of the scanning one.
  struct Request {
    std::optional<collectors::EngineOptions> engine;  // empty: only to publish anew
    ScanLoopOptions scan;
    bool done = false;
    std::optional<std::string> error;
  };

  [[nodiscard]] bool Periodic() const { return periodic_; }
  void Ask(const std::shared_ptr<Request>& request);
  // Does what is asked for, without new options only what can be done within a pass. False if something is left.
  bool ServeRequests(bool with_options);
  void Apply(Request& request);
  void RunPeriodically();
  void RunOnDemand();
  void RunPass();
  // False if it was not completed.
  bool TryPass();
  // Notes the exception that is being handled.
  void NoteException(const char* what) noexcept;
  void NoteFailure(ScanFailure reason, const char* what, std::string_view error) noexcept;
  // False also where the look failed.
  bool LookForForks();
  void PublishPass();
  void Publish();
  bool ContinuePass();
  [[nodiscard]] std::chrono::nanoseconds Left() const;
  void ListedProcesses(bool changed);
  // Counts CPU time that was not spent on reading pages.
  void ChargeOverhead(std::chrono::nanoseconds cpu);
  // A look for forks took so much: the pause before the next one.
  [[nodiscard]] std::chrono::nanoseconds PauseAfterLook(std::chrono::nanoseconds cpu) const;
  // Of all that scan, so far.
  std::chrono::nanoseconds CpuTime() const;
  // Until the next tick or new options, with passes that start early. False if stopped before.
  bool WatchForForks();
  bool MayPassEarly() const;
  // Or until something is asked for. False if stopped before.
  bool WaitUntil(Clock::time_point end);
  void OpenNextInterval();

  const std::unique_ptr<PassRunner> runner_;
  const AddSelfMetrics add_self_metrics_;
  Log& log_;
  SnapshotStore snapshots_;
  GroupHistory history_;
  std::atomic<bool> passed_once_ = false;
  std::atomic<bool> periodic_;
  std::atomic<bool> requested_ = false;  // requests_ is not empty
  std::atomic<Clock::time_point> last_step_ = kWaits;

  // Of the scanning thread; during a pass of the one that is in Continue.
  ScanLoopOptions options_;
  uint64_t options_changes_ = 0;
  clockid_t scan_clock_ = 0;  // of the scanning thread's CPU time
  CpuBudget budget_;
  Clock::time_point interval_end_;
  uint64_t interval_ = 0;                    // under way
  uint64_t pass_interval_ = 0;               // in which the pass began
  std::chrono::nanoseconds listing_cpu_{0};  // CPU time when the listing of processes began
  std::chrono::nanoseconds overhead_{0};     // CPU time in the interval that was not spent on reading pages
  Clock::time_point next_budget_check_;
  Clock::time_point next_look_;
  Clock::time_point pass_end_;
  std::chrono::nanoseconds pass_cpu_{0};  // of the last pass
  ScanStatistics statistics_;
  ToldOnce reported_problems_;
  ToldOnce failures_;
  bool failing_ = false;  // the last pass was not completed, and that was told

  std::mutex mutex_;
  std::condition_variable_any changed_;  // of anything that mutex_ guards
  uint64_t passes_wanted_ = 0;           // number of the pass that the last scrape waits for
  uint64_t passes_started_ = 0;
  uint64_t passes_finished_ = 0;
  std::deque<std::shared_ptr<Request>> requests_;

  std::stop_source stop_;
  std::jthread thread_;
};

}  // namespace cow::exporter
