// Measures how soon a fork between two passes gets its first look. Runs the program's scan loop with an engine that
// watches this host, and a distant tick.
#include <gtest/gtest.h>
#include <spdlog/sinks/null_sink.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "exporter/scan/scan_loop.h"
#include "tests/live/live.h"
#include "tests/support/privileges.h"

namespace cow::live {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

constexpr std::chrono::minutes kInterval{2};
constexpr std::chrono::seconds kPatience{30};

class ForksTest : public ::testing::Test {
 protected:
  void Start() {
    workload_ = std::make_unique<testing::Workload>();
    workload_->Do("name 0 " + group_);
    workload_->Map(0, "a", kPages);
    workload_->Do("write 0 a 0 " + std::to_string(kPages));
    stranger_ = std::make_unique<testing::Workload>();
    stranger_->Do("name 0 " + group_ + "s");
    collectors::EngineOptions options = DefaultOptions(std::chrono::hours(1));
    options.interval = kInterval;
    exporter::ScanLoopOptions scan;
    scan.interval = kInterval;
    scan.max_cpu = 0.1;
    distance_ = scan.early_distance;
    loop_ = std::make_unique<exporter::ScanLoop>(
        std::make_unique<exporter::EngineRunner>(procfs::Root(), options), scan,
        [this](const exporter::ScanStatistics& statistics, auto& /*writer*/) {
          early_passes_ = statistics.early_passes.value_or(0);
        },
        log_);
    loop_->Start();
    const auto end = Clock::now() + kPatience;
    while (!loop_->Ready() && Clock::now() < end) std::this_thread::sleep_for(milliseconds(10));
    ASSERT_TRUE(loop_->Ready());
  }

  // Returns the value of the workload's group; empty if the latest text has no such line.
  std::optional<double> Value(const std::string& name, const std::string& more_labels = "") const {
    return ValueOf(group_, name, more_labels);
  }
  std::optional<double> ValueOf(const std::string& group, const std::string& name,
                                const std::string& more_labels = "") const {
    const auto latest = loop_->Latest();
    const std::string_view text = latest->Text(exporter::TextFormat::kPrometheus);
    const std::string line = "\n" + name + "{group=\"" + group + "\"" + more_labels + "} ";
    const size_t at = text.find(line);
    if (at == std::string_view::npos) return std::nullopt;
    return std::stod(std::string(text.substr(at + line.size(), 32)));
  }

  // Returns the time until the fork is counted; kPatience if it never is.
  Clock::duration TimeUntilForks(const std::string& group, double forks) const {
    const auto begin = Clock::now();
    while (ValueOf(group, "cow_forks_total") != forks && Clock::now() < begin + kPatience) {
      std::this_thread::sleep_for(milliseconds(10));
    }
    return Clock::now() - begin;
  }

  // Another process forks and gets an early look.
  void ForkStranger() {
    stranger_->Fork();
    ASSERT_LT(TimeUntilForks(group_ + "s", ++strange_forks_), kPatience);
  }

  static constexpr size_t kPages = 5000;
  const std::string group_ = "live" + std::to_string(getpid()) + "f";
  exporter::Log log_{exporter::LogLevel::kError, exporter::LogFormat::kLogfmt,
                     std::make_shared<spdlog::sinks::null_sink_mt>()};
  std::atomic<uint64_t> early_passes_ = 0;
  std::chrono::nanoseconds distance_{0};
  std::unique_ptr<testing::Workload> workload_;
  std::unique_ptr<testing::Workload> stranger_;
  double strange_forks_ = 0;
  std::unique_ptr<exporter::ScanLoop> loop_;
};

TEST_F(ForksTest, FirstLookComesLongBeforeTheTick) {
  if (const std::string why = test::WhyNoPageFrames(); !why.empty()) GTEST_SKIP() << why;
  ASSERT_NO_FATAL_FAILURE(Start());
  ASSERT_EQ(Value("cow_forks_total"), 0);
  const std::string child = std::to_string(workload_->Fork().id);
  const auto first_look = TimeUntilForks(group_, 1);
  std::printf("first look after %lld ms\n",
              static_cast<long long>(std::chrono::duration_cast<milliseconds>(first_look).count()));
  ASSERT_LT(first_look, kPatience);
  EXPECT_GE(early_passes_, 1U);
  EXPECT_EQ(Value("cow_families"), 1);

  // Later breaks are known exactly at the next look, which a stranger's fork triggers.
  for (const char* member : {"0", child.c_str()}) {
    workload_->Do("stack " + std::string(member) + " " + std::to_string(kIdleStackPages));
  }
  ForkStranger();
  const double before = Value("cow_break_bytes_total", ",mapping=\"anon\"").value_or(-1);
  const double unattributed = Value("cow_unattributed_bytes_total").value_or(-1);
  workload_->Do("write " + child + " a 100 1234");
  workload_->Do("write 0 a 4000 77");
  ForkStranger();
  const auto pages = static_cast<double>(1234 + 77);
  EXPECT_EQ(Value("cow_break_bytes_total", ",mapping=\"anon\""), before + pages * static_cast<double>(PageBytes()));
  EXPECT_EQ(Value("cow_unattributed_bytes_total"), unattributed);
  EXPECT_NE(loop_->Latest()
                ->Text(exporter::TextFormat::kPrometheus)
                .find("cow_exporter_capability{feature=\"fork_events\"} "),
            std::string::npos);
}

// A known process forks thousands of children per second that end at once.
TEST_F(ForksTest, StormOfShortLivesDoesNotMakePasses) {
  ASSERT_NO_FATAL_FAILURE(Start());
  const uint64_t before = early_passes_;
  const auto begin = Clock::now();
  int forks = 0;
  while (Clock::now() < begin + std::chrono::seconds(3)) {
    const pid_t pid = fork();
    ASSERT_GE(pid, 0);
    if (pid == 0) _exit(0);
    waitpid(pid, nullptr, 0);
    ++forks;
  }
  const uint64_t passes = early_passes_ - before;
  std::printf("%d forks, %llu passes\n", forks, static_cast<unsigned long long>(passes));
  // Other processes of this host may have forked too.
  EXPECT_LE(passes, static_cast<uint64_t>((Clock::now() - begin) / distance_) + 1);
  EXPECT_LT(static_cast<int>(passes), forks / 50);
}

}  // namespace
}  // namespace cow::live
