#include "exporter/scan/scan_loop.h"

#include <pthread.h>

#include <algorithm>
#include <exception>
#include <utility>

#include "collectors/base/cpu_clock.h"

namespace cow::exporter {
namespace {

using std::chrono::nanoseconds;

// Minimum time between two budget checks, because reading the CPU clock is a system call.
constexpr std::chrono::microseconds kMinBudgetCheck{100};
// Looking for forks takes at most 1/kLookShare of a CPU and 1/kLookShareOfBudget of the budget.
constexpr int kLookShare = 100;
constexpr int kLookShareOfBudget = 10;
constexpr std::chrono::seconds kPauseAfterException{1};

nanoseconds BudgetOf(const ScanLoopOptions& options) {
  return std::chrono::duration_cast<nanoseconds>(options.interval * options.max_cpu);
}

}  // namespace

class ScanLoop::Control final : public collectors::PassControl {
 public:
  explicit Control(ScanLoop& loop) : loop_(loop) {}
  bool MustPause() override { return loop_.PauseIsDue(); }
  bool Continue() override { return loop_.ContinuePass(); }
  bool MustStop() const override { return loop_.stop_.stop_requested(); }
  uint64_t Interval() const override { return loop_.interval_; }
  nanoseconds Left() override { return loop_.Left(); }
  void Listed(bool changed) override { loop_.ListedProcesses(changed); }

 private:
  ScanLoop& loop_;
};

ScanLoop::ScanLoop(std::unique_ptr<PassRunner> runner, ScanLoopOptions options, AddSelfMetrics add_self_metrics,
                   Log& log, ScanEvents events)
    : runner_(std::move(runner)),
      log_(log),
      publisher_(std::move(add_self_metrics), log),
      events_(std::move(events)),
      periodic_(options.interval.count() > 0),
      options_(options),
      budget_(BudgetOf(options), nanoseconds{0}),
      failures_(log) {}

ScanLoop::~ScanLoop() { Stop(); }

void ScanLoop::Start() {
  Publish();
  thread_ = std::jthread([this] {
    pthread_getcpuclockid(pthread_self(), &scan_clock_);  // cannot fail for the calling thread
    interval_end_ = Clock::now() + options_.interval;
    if (Periodic()) statistics_.early_passes = 0;
    while (!stop_.stop_requested()) {
      try {
        if (Periodic()) {
          RunPeriodically();
        } else {
          RunOnDemand();
        }
      } catch (...) {
        failures_.RecordException("scanning failed");
        WaitUntil(Clock::now() + kPauseAfterException);
      }
    }
  });
}

void ScanLoop::Stop() {
  stop_.request_stop();
  if (thread_.joinable()) thread_.join();
}

uint64_t ScanLoop::WantPass() {
  if (Periodic()) return 0;
  const std::lock_guard lock(mutex_);
  const uint64_t mine = passes_started_ + 1;
  passes_wanted_ = std::max(passes_wanted_, mine);
  changed_.notify_all();
  return mine;
}

std::optional<std::string> ScanLoop::Reconfigure(collectors::EngineOptions engine, ScanLoopOptions scan) {
  const auto request = std::make_shared<Request>();
  request->engine = std::move(engine);
  request->scan = scan;
  Submit(request);
  const std::lock_guard lock(mutex_);
  return request->done ? request->error : "the program is ending";
}

void ScanLoop::Refresh() { Submit(std::make_shared<Request>()); }

void ScanLoop::Submit(const std::shared_ptr<Request>& request) {
  std::unique_lock lock(mutex_);
  requests_.push_back(request);
  requested_ = true;
  changed_.notify_all();
  changed_.wait(lock, stop_.get_token(), [&request] { return request->done; });
}

bool ScanLoop::ServeRequests(bool with_options) {
  std::unique_lock lock(mutex_);
  while (!requests_.empty()) {
    const std::shared_ptr<Request> request = requests_.front();
    if (request->engine && !with_options) return false;
    lock.unlock();
    try {
      if (request->engine) Apply(*request);
      PublishPass();
    } catch (...) {  // the previous snapshot stays published
      if (request->engine) request->error = "out of memory";
      failures_.RecordException("publishing failed");
    }
    lock.lock();
    requests_.pop_front();
    request->done = true;
    changed_.notify_all();
  }
  requested_ = false;
  return true;
}

void ScanLoop::Apply(Request& request) {
  try {
    runner_->Reconfigure(*request.engine);
  } catch (const std::exception& error) {
    request.error = error.what();
    return;
  }
  const Clock::time_point now = Clock::now();
  const Clock::time_point tick = now + request.scan.interval;
  interval_end_ = Periodic() ? std::min(interval_end_, tick) : tick;
  options_ = request.scan;
  ++options_changes_;
  periodic_ = options_.interval.count() > 0;
  if (!Periodic()) {
    statistics_.early_passes.reset();
  } else if (!statistics_.early_passes) {
    statistics_.early_passes = 0;
  }
  budget_.Change(BudgetOf(options_), CpuTime());
  next_budget_check_ = now;
}

void ScanLoop::RunPeriodically() {
  while (!stop_.stop_requested() && Periodic()) {
    RunPass();
    if (Clock::now() >= interval_end_) OpenNextInterval();  // the pass missed its tick
    if (!Periodic() || !WatchForForks()) return;
    if (Clock::now() >= interval_end_) OpenNextInterval();
  }
}

bool ScanLoop::WatchForForks() {
  bool wanted = false;  // a pass should start as soon as it may
  while (Clock::now() < interval_end_) {
    if (!WaitUntil(std::min(std::max(next_look_, Clock::now()), interval_end_))) return false;
    if (requested_) {
      const auto before = options_changes_;
      ServeRequests(true);
      if (options_changes_ != before) return true;
    }
    if (Clock::now() >= interval_end_) break;
    const nanoseconds before = ThreadCpuTime();
    wanted = LookForForks() || wanted;
    const nanoseconds cpu = ThreadCpuTime() - before;
    ChargeOverhead(cpu);
    next_look_ = Clock::now() + PauseAfterLook(cpu);
    if (!wanted || !MayPassEarly()) continue;
    wanted = false;
    ++*statistics_.early_passes;
    RunPass();
  }
  return true;
}

nanoseconds ScanLoop::PauseAfterLook(nanoseconds cpu) const {
  nanoseconds pause = std::max<nanoseconds>(options_.look_every, cpu * kLookShare);
  if (options_.max_cpu > 0) {
    const auto of_budget = std::chrono::duration<double>(cpu) * (kLookShareOfBudget / options_.max_cpu);
    pause = std::max(pause, std::chrono::duration_cast<nanoseconds>(
                                std::min(of_budget, std::chrono::duration<double>(options_.interval))));
  }
  return pause;
}

// The budget must suffice for the early pass and the one on the tick.
bool ScanLoop::MayPassEarly() const {
  if (!passed_once_ || Clock::now() < pass_end_ + options_.early_distance) return false;
  return !budget_.Limited() || budget_.Remaining(CpuTime()) >= 2 * pass_cpu_;
}

void ScanLoop::RunOnDemand() {
  std::unique_lock lock(mutex_);
  const auto wanted = [this] { return passes_wanted_ > passes_started_; };
  while (!Periodic() && changed_.wait(lock, stop_.get_token(), [&] { return wanted() || requested_; }) &&
         !stop_.stop_requested()) {
    const bool pass = wanted();
    lock.unlock();
    last_step_ = Clock::now();
    if (pass) {
      RunPass();
    } else {
      ServeRequests(true);
    }
    last_step_ = kIdle;
    lock.lock();
  }
}

void ScanLoop::RunPass() {
  uint64_t pass = 0;
  {
    const std::lock_guard lock(mutex_);
    pass = ++passes_started_;
  }
  bool completed = false;
  do {  // new options interrupt a pass
    ServeRequests(true);
    completed = TryPass();
  } while (!completed && requested_ && !stop_.stop_requested());
  events_.passed(pass);
  if (completed) failures_.RecordSuccess();
}

bool ScanLoop::LookForForks() {
  try {
    return runner_->NewForks();
  } catch (...) {
    failures_.RecordException("looking for forks failed");
    return false;
  }
}

bool ScanLoop::TryPass() {
  const Clock::time_point start = Clock::now();
  const nanoseconds start_cpu = CpuTime();
  listing_cpu_ = start_cpu;
  pass_interval_ = interval_;
  Control control(*this);
  bool completed = false;
  try {
    completed = runner_->RunPass(control);
    if (completed) {
      statistics_.last_duration = Clock::now() - start;
      passed_once_ = true;
    }
    PublishPass();
    LogNotices(*runner_, log_);
    if (!completed && !requested_ && !stop_.stop_requested())
      failures_.Record(ScanFailure::kProcesses, "pass failed", "the processes can't be listed");
  } catch (...) {
    completed = false;
    failures_.RecordException("pass failed");
    try {
      PublishPass();
    } catch (...) {  // the previous snapshot stays published
    }
  }
  pass_end_ = Clock::now();
  pass_cpu_ = CpuTime() - start_cpu;
  return completed;
}

nanoseconds ScanLoop::CpuTime() const { return ReadCpuClock(scan_clock_) + runner_->HelperCpuTime(); }

void ScanLoop::PublishPass() {
  const nanoseconds before = ThreadCpuTime();
  statistics_.cpu = CpuTime();
  statistics_.failures = failures_.Counts();
  Publish();
  ChargeOverhead(ThreadCpuTime() - before);
}

void ScanLoop::Publish() {
  publisher_.Publish(*runner_, statistics_, Ready(), !Periodic());
  events_.published(publisher_.Latest());
}

bool ScanLoop::PauseIsDue() {
  const Clock::time_point now = Clock::now();
  last_step_ = now;
  if (stop_.stop_requested() || requested_) return true;
  return Periodic() && (now >= interval_end_ || (budget_.Limited() && now >= next_budget_check_));
}

bool ScanLoop::ContinuePass() {
  last_step_ = Clock::now();
  if (stop_.stop_requested()) return false;
  if (requested_ && !ServeRequests(false)) return false;
  if (!Periodic()) return true;
  const Clock::time_point now = Clock::now();
  if (now < interval_end_) {
    if (!budget_.Limited() || now < next_budget_check_) return true;
    const nanoseconds remaining = budget_.Remaining(CpuTime());
    if (remaining.count() > 0) {
      // The threads cannot use up the budget before each has run for this time.
      const nanoseconds each = remaining / std::max<int64_t>(static_cast<int64_t>(options_.threads), 1);
      next_budget_check_ = now + std::max<nanoseconds>(each, kMinBudgetCheck);
      return true;
    }
    while (Clock::now() < interval_end_) {
      if (!WaitUntil(interval_end_)) return false;
      if (requested_ && !ServeRequests(false)) return false;
    }
  }
  OpenNextInterval();
  return true;  // run a step in each interval
}

nanoseconds ScanLoop::Left() const {
  if (!Periodic()) return nanoseconds::max();
  const nanoseconds time =
      (interval_end_ - Clock::now()) * std::max<int64_t>(static_cast<int64_t>(options_.threads), 1);
  return budget_.Limited() ? std::min(time, budget_.Remaining(CpuTime())) : time;
}

// Publishes the values of the ended interval and changes of the families since.
void ScanLoop::ListedProcesses(bool changed) {
  if (!Periodic()) return;
  ChargeOverhead(CpuTime() - listing_cpu_);
  if (changed || interval_ != pass_interval_) PublishPass();
  LogNotices(*runner_, log_);
  listing_cpu_ = CpuTime();
  next_budget_check_ = Clock::now();
}

void ScanLoop::ChargeOverhead(nanoseconds cpu) {
  const nanoseconds share = BudgetOf(options_) / 2;
  const nanoseconds before = std::max(overhead_, share);
  overhead_ += cpu;
  if (budget_.Limited() && overhead_ > before) budget_.Refund(overhead_ - before);
}

bool ScanLoop::WaitUntil(Clock::time_point end) {
  last_step_ = kIdle;
  std::unique_lock lock(mutex_);
  changed_.wait_until(lock, stop_.get_token(), end, [this] { return requested_.load(); });
  last_step_ = Clock::now();
  return !stop_.stop_requested();
}

void ScanLoop::OpenNextInterval() {
  if (!Periodic()) return;  // new options may have set interval 0
  const Clock::time_point now = Clock::now();
  const int64_t count = std::max<int64_t>((now - interval_end_) / options_.interval + 1, 1);
  interval_end_ += count * options_.interval;
  interval_ += static_cast<uint64_t>(count);
  listing_cpu_ = CpuTime();
  overhead_ = nanoseconds{0};
  budget_.Open(count, listing_cpu_);
  next_budget_check_ = now;
}

}  // namespace cow::exporter
