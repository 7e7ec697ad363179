#include "exporter/scan/scan_loop.h"

#include <gtest/gtest.h>
#include <spdlog/sinks/null_sink.h>
#include <spdlog/sinks/ostream_sink.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <new>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "collectors/base/cpu_clock.h"
#include "tests/unit/exporter/scan/fake_runner.h"

namespace cow::exporter {
namespace {

using std::chrono::milliseconds;
using Clock = ScanLoop::Clock;

constexpr milliseconds kPatience{20000};  // for events that must happen, also on a loaded machine

class ScanLoopTest : public testing::Test {
 protected:
  ScanLoop& Start(milliseconds interval, double max_cpu, FakeRunner::Pass pass) {
    return Start(ScanLoopOptions{interval, max_cpu}, std::make_unique<FakeRunner>(std::move(pass)));
  }
  ScanLoop& Start(ScanLoopOptions options, std::unique_ptr<FakeRunner> runner) {
    loop_ = std::make_unique<ScanLoop>(
        std::move(runner), options,
        [this](const ScanStatistics& statistics, collectors::MetricWriter& /*writer*/) {
          cpu_seconds_ = statistics.cpu.count();
          early_passes_ = statistics.early_passes.value_or(kNone);
          ++published_;
        },
        log_, Events());
    loop_->Start();
    return *loop_;
  }

  // Tells Scrape which passes have ended.
  ScanEvents Events() {
    ScanEvents events;
    events.passed = [this](uint64_t pass) {
      const std::lock_guard lock(mutex_);
      passed_ = pass;
      changed_.notify_all();
    };
    return events;
  }

  // Waits for a pass that starts now, if the loop runs passes on demand.
  std::shared_ptr<const Snapshot> Scrape(ScanLoop& loop) {
    const uint64_t pass = loop.WantPass();
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return passed_ >= pass; });
    return loop.Latest();
  }

  bool HasPasses(ScanLoop& loop, int count) {
    return Scrape(loop)->Text(TextFormat::kPrometheus).find("\nfake_passes " + std::to_string(count) + "\n") !=
           std::string_view::npos;
  }

  template <class Condition>
  static bool Eventually(Condition condition) {
    const auto end = Clock::now() + kPatience;
    while (!condition() && Clock::now() < end) std::this_thread::sleep_for(milliseconds{1});
    return condition();
  }

  Log log_{LogLevel::kInfo, LogFormat::kLogfmt, std::make_shared<spdlog::sinks::null_sink_mt>()};
  std::atomic<double> cpu_seconds_ = 0;
  static constexpr uint64_t kNone = ~uint64_t{0};
  std::atomic<uint64_t> early_passes_ = kNone;
  std::atomic<int> published_ = 0;
  std::mutex mutex_;
  std::condition_variable changed_;
  uint64_t passed_ = 0;
  std::unique_ptr<ScanLoop> loop_;
};

TEST_F(ScanLoopTest, ReadyAfterTheFirstPass) {
  std::promise<void> go;
  auto gate = go.get_future().share();
  ScanLoop& loop = Start(milliseconds{50}, 0, [gate](auto& /*control*/) {
    gate.wait();
    return true;
  });
  EXPECT_FALSE(loop.Ready());
  EXPECT_TRUE(HasPasses(loop, 0));
  go.set_value();
  EXPECT_TRUE(Eventually([&] { return loop.Ready(); }));
}

TEST_F(ScanLoopTest, IsAliveWhileStepsFinish) {
  std::atomic<bool> stuck = false;
  ScanLoop& loop = Start(milliseconds{10}, 0, [&stuck](auto& control) {
    for (int i = 0; i < 20 && control.Continue(); ++i) std::this_thread::sleep_for(milliseconds{1});
    while (stuck) std::this_thread::sleep_for(milliseconds{1});
    return true;
  });
  EXPECT_TRUE(Eventually([&] { return loop.Ready(); }));
  EXPECT_TRUE(loop.IsAlive(milliseconds{500}));
  stuck = true;
  EXPECT_TRUE(Eventually([&] { return !loop.IsAlive(milliseconds{100}); }));
  stuck = false;
  EXPECT_TRUE(Eventually([&] { return loop.IsAlive(milliseconds{100}); }));
}

TEST_F(ScanLoopTest, IsAliveWhileIdle) {
  ScanLoop& loop = Start(std::chrono::hours{1}, 0, [](auto& /*control*/) { return true; });
  EXPECT_TRUE(Eventually([&] { return loop.Ready(); }));
  std::this_thread::sleep_for(milliseconds{50});
  EXPECT_TRUE(Eventually([&] { return loop.IsAlive(milliseconds{1}); }));
}

TEST_F(ScanLoopTest, FailedPassesAreNotReady) {
  std::atomic<int> passes = 0;
  ScanLoop& loop = Start(milliseconds{10}, 0, [&passes](auto& /*control*/) {
    if (++passes % 2 == 1) throw std::runtime_error("broken");
    return false;
  });
  EXPECT_TRUE(Eventually([&] { return passes >= 4; }));
  EXPECT_FALSE(loop.Ready());
}

// Logs a failure once instead of at each pass, then the recovery, then the next failure.
TEST_F(ScanLoopTest, LogsAFailureOnceWhileItLasts) {
  std::ostringstream out;
  Log log(LogLevel::kInfo, LogFormat::kLogfmt, std::make_shared<spdlog::sinks::ostream_sink_mt>(out));
  std::atomic<int> passes = 0;
  {
    ScanLoop loop(
        std::make_unique<FakeRunner>([&passes](auto& /*control*/) {
          const int pass = ++passes;
          if (pass % 10 == 0) return true;
          if (pass % 2 == 1) throw std::runtime_error("broken");
          return false;
        }),
        ScanLoopOptions{milliseconds{10}, 0}, [](const auto& /*statistics*/, auto& /*families*/) {}, log);
    loop.Start();
    EXPECT_TRUE(Eventually([&] { return passes >= 13; }));
  }
  const std::string text = out.str();
  std::vector<std::string> told;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) told.push_back(line.substr(line.find("level=")));
  const std::string broken = R"(level=error msg="pass failed" error=broken)";
  const std::string incomplete = R"(level=error msg="pass failed" error="the processes can't be listed")";
  const std::vector<std::string> expected = {broken, incomplete, R"(level=info msg="passes complete again")", broken,
                                             incomplete};
  ASSERT_GE(told.size(), expected.size()) << text;
  told.resize(expected.size());  // a slow machine may be in the third round
  EXPECT_EQ(told, expected);
}

// Each step of the scanning thread throws in turn; the loop continues.
TEST_F(ScanLoopTest, ContinuesAfterAnyException) {
  std::atomic<int> passes = 0;
  std::atomic<int> looks = 0;
  std::atomic<bool> published_badly = false;
  std::array<std::atomic<uint64_t>, kScanFailures.size()> failures{};
  ScanLoop loop(
      std::make_unique<FakeRunner>(
          [&passes](auto& /*control*/) {
            const int pass = ++passes;
            if (pass % 5 == 1) throw std::bad_alloc();
            if (pass % 5 == 2) throw 5;
            return pass % 5 != 3;
          },
          [&looks]() -> bool {
            if (++looks % 2 == 1) throw std::bad_alloc();
            throw 5;
          }),
      ScanLoopOptions{milliseconds{10}, 0, milliseconds{1}},
      [&](const ScanStatistics& statistics, auto& /*writer*/) {
        if (passes == 4 && !published_badly.exchange(true)) throw std::bad_alloc();
        for (size_t reason = 0; reason < failures.size(); ++reason) failures[reason] = statistics.failures[reason];
      },
      log_);
  loop.Start();
  EXPECT_TRUE(Eventually([&] { return passes >= 11; }));
  EXPECT_TRUE(loop.Ready());
  EXPECT_TRUE(published_badly);
  EXPECT_GE(looks, 2);
  loop.Refresh();
  EXPECT_GE(failures[static_cast<size_t>(ScanFailure::kMemory)], 3U);
  EXPECT_GE(failures[static_cast<size_t>(ScanFailure::kError)], 2U);
  EXPECT_GE(failures[static_cast<size_t>(ScanFailure::kProcesses)], 2U);
}

// Requests are answered even if publishing throws.
TEST_F(ScanLoopTest, ServesRequestsAfterAnyException) {
  std::atomic<bool> broken = false;
  ScanLoop loop(
      std::make_unique<FakeRunner>([](auto& /*control*/) { return true; }), ScanLoopOptions{milliseconds{0}, 0},
      [&](const auto& /*statistics*/, auto& /*writer*/) {
        if (broken) throw std::bad_alloc();
      },
      log_, Events());
  loop.Start();
  broken = true;
  loop.Refresh();
  EXPECT_EQ(loop.Reconfigure({}, ScanLoopOptions{milliseconds{0}, 0}), "out of memory");
  EXPECT_NE(Scrape(loop), nullptr);
  broken = false;
  EXPECT_EQ(loop.Reconfigure({}, ScanLoopOptions{milliseconds{0}, 0}), std::nullopt);
}

constexpr collectors::Metric kNotAName{.name = "not a name", .help = "Of no use.", .of_groups = false};

TEST_F(ScanLoopTest, LogsProblemsOfMetricsOnce) {
  std::ostringstream out;
  Log log(LogLevel::kInfo, LogFormat::kLogfmt, std::make_shared<spdlog::sinks::ostream_sink_mt>(out));
  std::atomic<int> published = 0;
  {
    ScanLoop loop(
        std::make_unique<FakeRunner>([](auto& /*control*/) { return true; }), ScanLoopOptions{milliseconds{10}, 0},
        [&published](const auto& /*statistics*/, auto& writer) {
          writer.Begin(kNotAName);
          writer.Add({}, 1);
          ++published;
        },
        log);
    loop.Start();
    EXPECT_TRUE(Eventually([&] { return published >= 5; }));
  }
  const std::string text = out.str();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1) << text;
  EXPECT_NE(text.find("metrics left out"), std::string::npos);
}

TEST_F(ScanLoopTest, PassesStartOnTicks) {
  constexpr milliseconds kInterval{100};
  std::mutex mutex;
  std::vector<Clock::time_point> starts;
  Start(kInterval, 0, [&](auto& /*control*/) {
    const std::lock_guard lock(mutex);
    starts.push_back(Clock::now());
    const bool overruns = starts.size() == 2;
    std::this_thread::sleep_for(overruns ? kInterval * 3 / 2 : milliseconds{30});
    return true;
  });
  ASSERT_TRUE(Eventually([&] {
    const std::lock_guard lock(mutex);
    return starts.size() >= 6;
  }));
  loop_->Stop();
  for (size_t i = 1; i < starts.size(); ++i) {
    const auto since_first = starts[i] - starts[0];
    const auto expected = kInterval * (i >= 2 ? i + 1 : i);
    EXPECT_GE(since_first + milliseconds{20}, expected) << i;  // never before its tick; later only on a loaded machine
  }
}

TEST_F(ScanLoopTest, NewOptionsRestartAPass) {
  std::atomic<int> begun = 0;
  std::atomic<bool> endless = true;
  auto runner = std::make_unique<FakeRunner>([&](auto& control) {
    ++begun;
    while (endless) {
      if (!control.Continue()) return false;
    }
    return true;
  });
  const FakeRunner& fake = *runner;
  // The pass waits for its budget for an hour.
  ScanLoop& loop = Start(ScanLoopOptions{std::chrono::hours{1}, 1e-9}, std::move(runner));
  ASSERT_TRUE(Eventually([&] { return begun == 1; }));
  const auto start = Clock::now();
  EXPECT_EQ(loop.Reconfigure({}, ScanLoopOptions{milliseconds{20}, 0}), std::nullopt);
  EXPECT_LT(Clock::now() - start, kPatience);
  EXPECT_EQ(fake.reconfigured, 1);
  ASSERT_TRUE(Eventually([&] { return begun == 2; }));
  EXPECT_FALSE(loop.Ready());
  endless = false;
  EXPECT_TRUE(Eventually([&] { return loop.Ready() && begun >= 5; }));
}

TEST_F(ScanLoopTest, BadOptionsChangeNothing) {
  ScanLoop& loop = Start(milliseconds{10}, 0, [](auto& /*control*/) { return true; });
  collectors::EngineOptions bad;
  bad.max_groups = 0;
  EXPECT_EQ(loop.Reconfigure(bad, ScanLoopOptions{std::chrono::hours{1}, 0}), "bad options");
  EXPECT_TRUE(Eventually([&] { return HasPasses(loop, 20); }));
}

TEST_F(ScanLoopTest, OptionsBetweenPassesStartOne) {
  std::atomic<int> begun = 0;
  ScanLoop& loop = Start(std::chrono::hours{1}, 0, [&](auto& /*control*/) {
    ++begun;
    return true;
  });
  ASSERT_TRUE(Eventually([&] { return begun == 1; }));
  EXPECT_EQ(loop.Reconfigure({}, ScanLoopOptions{std::chrono::hours{2}, 0}), std::nullopt);
  EXPECT_TRUE(Eventually([&] { return begun == 2; }));
}

TEST_F(ScanLoopTest, FromTicksToScrapesAndBack) {
  std::atomic<int> begun = 0;
  ScanLoop& loop = Start(milliseconds{5}, 0, [&](auto& control) {
    ++begun;
    return control.Continue();
  });
  std::atomic<bool> end = false;
  std::thread scrapes([&] {
    while (!end) Scrape(loop);
  });
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(loop.Reconfigure({}, ScanLoopOptions{milliseconds{i % 2 == 0 ? 0 : 5}, 0}), std::nullopt);
    loop.Refresh();
  }
  EXPECT_EQ(loop.Reconfigure({}, ScanLoopOptions{milliseconds{0}, 0}), std::nullopt);
  end = true;
  scrapes.join();
  const int before = begun;
  std::this_thread::sleep_for(milliseconds{50});
  EXPECT_LE(begun, before + 1);
  Scrape(loop);
  EXPECT_GT(begun, before);
}

TEST_F(ScanLoopTest, RefreshPublishesAlsoWithinAPass) {
  std::atomic<bool> running = false;
  ScanLoop& loop = Start(std::chrono::hours{1}, 1e-9, [&](auto& control) {
    running = true;
    while (control.Continue()) {
    }
    return false;
  });
  ASSERT_TRUE(Eventually([&] { return running.load(); }));
  const int before = published_;
  loop.Refresh();
  EXPECT_GT(published_, before);
}

TEST_F(ScanLoopTest, StopEndsReconfigure) {
  std::promise<void> go;
  auto gate = go.get_future().share();
  std::atomic<bool> running = false;
  ScanLoop& loop = Start(milliseconds{10}, 0, [&, gate](auto& /*control*/) {
    running = true;
    gate.wait();
    return true;
  });
  ASSERT_TRUE(Eventually([&] { return running.load(); }));
  auto waiting = std::async(std::launch::async, [&] { return loop.Reconfigure({}, ScanLoopOptions{}); });
  auto stopping = std::async(std::launch::async, [&] { loop.Stop(); });
  EXPECT_EQ(waiting.get(), "the program is ending");
  go.set_value();
  stopping.get();
}

TEST_F(ScanLoopTest, StopInterruptsAPass) {
  std::atomic<bool> running = false;
  ScanLoop& loop = Start(milliseconds{1000}, 0, [&running](auto& control) {
    while (control.Continue()) running = true;
    return false;
  });
  ASSERT_TRUE(Eventually([&] { return running.load(); }));
  const auto start = Clock::now();
  loop.Stop();
  EXPECT_LT(Clock::now() - start, milliseconds{1000});
}

TEST_F(ScanLoopTest, StopEndsWaitingForTheBudget) {
  std::atomic<int> steps = 0;
  ScanLoop& loop = Start(std::chrono::hours{1}, 1e-9, [&steps](auto& control) {
    while (control.Continue()) ++steps;
    return false;
  });
  std::this_thread::sleep_for(milliseconds{50});
  const auto start = Clock::now();
  loop.Stop();
  EXPECT_LT(Clock::now() - start, milliseconds{1000});
  EXPECT_FALSE(loop.Ready());
}

TEST_F(ScanLoopTest, KeepsItsBudgetAndPublishesEachInterval) {
  constexpr milliseconds kInterval{100};
  constexpr double kMaxCpu = 0.2;
  Start(kInterval, kMaxCpu, [](auto& control) {
    for (uint64_t interval = control.Interval(); control.Continue();) {
      if (std::exchange(interval, control.Interval()) != control.Interval()) control.Listed(false);
      const auto end = ThreadCpuTime() + std::chrono::microseconds{50};
      while (ThreadCpuTime() < end) {
      }
    }
    return false;
  });
  std::this_thread::sleep_for(kInterval * 10);
  ASSERT_TRUE(Eventually([&] { return published_ >= 8; }));
  const int published = published_;
  const double allowed = (published + 1) * kMaxCpu * std::chrono::duration<double>(kInterval).count();
  EXPECT_LT(cpu_seconds_, allowed * 1.5);
  EXPECT_GT(cpu_seconds_, allowed * 0.1);
}

void Compute(std::chrono::nanoseconds cpu) {
  const auto end = ThreadCpuTime() + cpu;
  while (ThreadCpuTime() < end) {
  }
}

// Listing and publishing each cost more than an interval's budget.
TEST_F(ScanLoopTest, ReadingKeepsHalfOfTheBudget) {
  static constexpr milliseconds kInterval{100};
  static constexpr milliseconds kBudget{2};
  static constexpr std::chrono::microseconds kStep{50};
  static constexpr int kIntervals = 10;
  std::atomic<int> steps = 0;
  std::atomic<bool> done = false;
  auto runner = std::make_unique<FakeRunner>([&](auto& control) {
    const uint64_t first = control.Interval();
    for (uint64_t interval = first - 1; control.Continue();) {
      if (std::exchange(interval, control.Interval()) != control.Interval()) {
        if (control.Interval() == first + kIntervals) done = true;
        Compute(2 * kBudget);
        control.Listed(true);
      }
      Compute(kStep);
      if (!done) ++steps;
    }
    return false;
  });
  runner->collect = [] { Compute(2 * kBudget); };
  ScanLoopOptions options;
  options.interval = kInterval;
  options.max_cpu = std::chrono::duration<double>(kBudget) / kInterval;
  Start(options, std::move(runner));
  ASSERT_TRUE(Eventually([&] { return done.load(); }));
  loop_->Stop();
  EXPECT_GE(steps, kIntervals * (kBudget / 2 / kStep) / 2);
  EXPECT_LE(steps, kIntervals * (kBudget / kStep));
}

// A step costs the calling thread almost nothing, but its helpers much.
TEST_F(ScanLoopTest, BudgetIsForAllThreads) {
  constexpr milliseconds kInterval{100};
  constexpr double kMaxCpu = 0.2;
  std::atomic<int> steps = 0;
  FakeRunner* runner = nullptr;
  auto owned = std::make_unique<FakeRunner>([&](auto& control) {
    for (uint64_t interval = control.Interval(); control.Continue();) {
      if (std::exchange(interval, control.Interval()) != control.Interval()) control.Listed(false);
      ++steps;
      runner->helper_cpu = runner->helper_cpu.load() + milliseconds{5};
      std::this_thread::sleep_for(milliseconds{1});
    }
    return false;
  });
  runner = owned.get();
  ScanLoopOptions options;
  options.interval = kInterval;
  options.max_cpu = kMaxCpu;
  options.threads = 4;
  Start(options, std::move(owned));
  ASSERT_TRUE(Eventually([&] { return published_ >= 8; }));
  loop_->Stop();
  // 20 ms in an interval are four steps.
  EXPECT_LE(steps, 4 * (published_ + 2));
  EXPECT_GE(cpu_seconds_, 0.005 * (steps - 5));
}

TEST_F(ScanLoopTest, NoLimitNeverWaits) {
  ScanLoop& loop = Start(std::chrono::hours{1}, 0, [](auto& control) {
    const auto end = ThreadCpuTime() + milliseconds{50};
    while (ThreadCpuTime() < end) {
      if (!control.Continue()) return false;
    }
    return true;
  });
  EXPECT_TRUE(Eventually([&] { return loop.Ready(); }));
}

class EarlyPassTest : public ScanLoopTest {
 protected:
  static constexpr milliseconds kDistance{50};

  // Looks each millisecond; no tick comes during the test.
  void StartWatching(double max_cpu, const std::function<bool()>& new_forks, milliseconds cpu_of_a_pass = {}) {
    Start({interval_, max_cpu, milliseconds{1}, kDistance}, std::make_unique<FakeRunner>(
                                                                [this, cpu_of_a_pass](auto& /*control*/) {
                                                                  const std::lock_guard lock(mutex_);
                                                                  starts_.push_back(Clock::now());
                                                                  const auto end = ThreadCpuTime() + cpu_of_a_pass;
                                                                  while (ThreadCpuTime() < end) {
                                                                  }
                                                                  return true;
                                                                },
                                                                [this, new_forks] {
                                                                  ++looks_;
                                                                  return new_forks();
                                                                }));
  }
  size_t Passes() {
    const std::lock_guard lock(mutex_);
    return starts_.size();
  }

  milliseconds interval_ = std::chrono::hours{1};
  std::mutex mutex_;
  std::vector<Clock::time_point> starts_;
  std::atomic<int> looks_ = 0;
};

TEST_F(EarlyPassTest, NewForkStartsAPass) {
  std::atomic<bool> forked = false;
  StartWatching(0, [&forked] { return forked.exchange(false); });
  ASSERT_TRUE(Eventually([&] { return looks_ > 10; }));
  EXPECT_EQ(Passes(), 1U);
  EXPECT_EQ(early_passes_, 0U);
  forked = true;
  ASSERT_TRUE(Eventually([&] { return Passes() == 2; }));
  const int looks = looks_;
  ASSERT_TRUE(Eventually([&] { return looks_ > looks + 10; }));
  EXPECT_EQ(Passes(), 2U);
  EXPECT_EQ(early_passes_, 1U);
}

// A fork soon after a pass starts an early pass later.
TEST_F(EarlyPassTest, PassesKeepTheirDistance) {
  std::atomic<int> forks = 3;
  StartWatching(0, [&forks] { return forks > 0 && --forks >= 0; });
  ASSERT_TRUE(Eventually([&] { return Passes() == 2; }));
  loop_->Stop();
  EXPECT_GE(starts_[1] - starts_[0], kDistance);
}

TEST_F(EarlyPassTest, EndlessForksStayWithinTheBudget) {
  // 36 ms of CPU per interval allow three passes of 10 ms, including the one on the tick.
  interval_ = std::chrono::seconds{36};
  StartWatching(
      1e-3, [] { return true; }, milliseconds{10});
  ASSERT_TRUE(Eventually([&] { return Passes() >= 2; }));
  const int looks = looks_;
  ASSERT_TRUE(Eventually([&] { return looks_ > looks + 20; }));
  EXPECT_LE(Passes(), 3U);
}

TEST_F(EarlyPassTest, ExpensiveLooksAreRare) {
  std::atomic<int64_t> cpu = 0;
  StartWatching(0, [&cpu] {
    const auto end = ThreadCpuTime() + milliseconds{2};
    while (ThreadCpuTime() < end) {
    }
    cpu += 2;
    return false;
  });
  const auto begin = Clock::now();
  std::this_thread::sleep_for(milliseconds{700});
  loop_->Stop();
  EXPECT_LE(cpu, (Clock::now() - begin) / milliseconds{100} + 2) << "a hundredth, and the first";
}

TEST_F(EarlyPassTest, LooksKeepASmallBudget) {
  std::atomic<int64_t> cpu = 0;
  StartWatching(0.01, [&cpu] {
    Compute(milliseconds{1});
    ++cpu;
    return false;
  });
  const auto begin = Clock::now();
  std::this_thread::sleep_for(milliseconds{1500});
  loop_->Stop();
  EXPECT_LE(cpu, (Clock::now() - begin) / milliseconds{1000} + 2) << "a tenth of a hundredth, and the first";
}

TEST_F(EarlyPassTest, NoLooksAtIntervalZero) {
  Start({milliseconds{0}, 0, milliseconds{1}, milliseconds{0}},
        std::make_unique<FakeRunner>([](auto& /*control*/) { return true; },
                                     [this] {
                                       ++looks_;
                                       return true;
                                     }));
  EXPECT_TRUE(HasPasses(*loop_, 1));
  std::this_thread::sleep_for(milliseconds{50});
  EXPECT_EQ(looks_, 0);
  EXPECT_TRUE(HasPasses(*loop_, 2));
  EXPECT_EQ(early_passes_, kNone);
}

TEST_F(EarlyPassTest, NoEarlyPassesAfterAChangeToIntervalZero) {
  ScanLoop& loop = Start(milliseconds{5}, 0, [](auto& /*control*/) { return true; });
  ASSERT_TRUE(Eventually([&] { return early_passes_ == 0U; }));
  EXPECT_EQ(loop.Reconfigure({}, ScanLoopOptions{milliseconds{0}, 0}), std::nullopt);
  EXPECT_EQ(early_passes_, kNone);
  EXPECT_EQ(loop.Reconfigure({}, ScanLoopOptions{milliseconds{5}, 0}), std::nullopt);
  EXPECT_EQ(early_passes_, 0U);
}

TEST_F(ScanLoopTest, OnDemandScrapesShareTheNextPass) {
  std::atomic<int> started = 0;
  std::promise<void> go;
  auto gate = go.get_future().share();
  ScanLoop& loop = Start(milliseconds{0}, 0.0001, [&started, gate](auto& control) {
    if (++started == 1) gate.wait();
    return control.Continue();
  });
  EXPECT_TRUE(loop.Ready());
  EXPECT_EQ(started, 0);

  auto first = std::async(std::launch::async, [&] { return HasPasses(loop, 1); });
  ASSERT_TRUE(Eventually([&] { return started == 1; }));
  std::vector<std::future<bool>> others;
  others.reserve(5);
  std::atomic<int> asking = 0;
  for (int i = 0; i < 5; ++i) {
    others.push_back(std::async(std::launch::async, [&] {
      ++asking;
      return HasPasses(loop, 2);
    }));
  }
  ASSERT_TRUE(Eventually([&] { return asking == 5; }));
  std::this_thread::sleep_for(milliseconds{100});  // let the threads ask for a pass
  EXPECT_EQ(first.wait_for(milliseconds{0}), std::future_status::timeout);
  go.set_value();
  for (auto& other : others) EXPECT_TRUE(other.get());
  first.get();
  EXPECT_EQ(started, 2);
}

}  // namespace
}  // namespace cow::exporter
