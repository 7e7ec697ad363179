// Late first looks: parent and child write before any scan sees the child. The kernel's marks show the writer only if
// no other fork can have cleared them. Otherwise the page is unattributed and no break.
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tests/live/live.h"
#include "tests/support/privileges.h"

namespace cow::live {
namespace {

// Makes the host fork continuously.
class Forker {
 public:
  Forker() : thread_([this] { Run(); }) {}
  ~Forker() {
    ended_ = true;
    thread_.join();
  }
  Forker(const Forker&) = delete;
  Forker& operator=(const Forker&) = delete;

 private:
  void Run() const {
    while (!ended_) {
      const pid_t pid = vfork();  // NOLINT(clang-analyzer-security.insecureAPI.vfork): the kernel only has to count it
      if (pid == 0) _exit(0);
      while (waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
      }
    }
  }

  std::atomic<bool> ended_ = false;
  std::thread thread_;
};

// Parameter: with or without fork events.
class FirstLookTest : public LiveTest, public ::testing::WithParamInterface<bool> {
 protected:
  void SetUp() override {
    LiveTest::SetUp();
    if (IsSkipped()) return;
    collectors::EngineOptions options = DefaultOptions();
    options.fork_events = GetParam();
    engine_ = std::make_unique<collectors::Engine>(procfs::Root(), options);
    workload().Map(0, "a", kPages);
    Write(0, "a", 0, kPages);
    Idle(0);
    before_ = Look();
    // A process' start time has the resolution of a clock tick, so the look must end in an earlier tick.
    usleep(30'000);
  }

  Sample Look() { return PassOf(*engine_, group()); }
  // Returns the verdicts since SetUp, in pages of the test's mappings plus a few pages of stacks and libc's data.
  double Parent() const { return Change(before_, after_).Of(kParentBreaks); }
  double Child() const { return Change(before_, after_).Of(kChildBreaks); }
  double Unattributed() const { return Change(before_, after_).Pages(kUnattributed); }
  void LateLook() {
    after_ = Look();
    EXPECT_EQ(Change(before_, after_).Of(kUnknownBreaks), 0);
  }

  static constexpr size_t kPages = 3000;
  static constexpr double kOther = 60;  // most pages that commands dirty in all members
  std::unique_ptr<collectors::Engine> engine_;
  Sample before_;
  Sample after_;
};

INSTANTIATE_TEST_SUITE_P(WithoutAndWithEvents, FirstLookTest, ::testing::Bool());

// Like a Redis that saves: one child that does not fork.
TEST_P(FirstLookTest, SidesOfAParentAndItsOnlyChildAreKnown) {
  if (const std::string why = test::WhyNoHostProcesses(); !why.empty()) GTEST_SKIP() << why;
  const int child = Fork();
  Write(0, "a", 0, 2000);
  Write(child, "a", 2000, 900);
  LateLook();
  EXPECT_GE(Parent(), 1980);
  EXPECT_LE(Parent(), 2000 + kOther);
  EXPECT_GE(Child(), 891);
  EXPECT_LE(Child(), 900 + kOther);
  EXPECT_LE(Unattributed(), 29) << "99 % have a side";
}

TEST_P(FirstLookTest, SidesAreKnownWhileOthersFork) {
  if (const std::string why = test::WhyNoHostProcesses(); !why.empty()) GTEST_SKIP() << why;
  const Forker forker;
  const int child = Fork();
  Write(0, "a", 0, 2000);
  Write(child, "a", 2000, 900);
  LateLook();
  EXPECT_GE(Parent(), 1980);
  EXPECT_GE(Child(), 891);
  EXPECT_LE(Unattributed(), 29);
}

// A service that has saved before: its children's faults are in its own counters.
TEST_P(FirstLookTest, SidesAreKnownAfterAnEarlierChild) {
  if (const std::string why = test::WhyNoHostProcesses(); !why.empty()) GTEST_SKIP() << why;
  const int earlier = Fork();
  Do("exit " + std::to_string(earlier));
  Look();
  usleep(30'000);
  before_ = Look();
  usleep(30'000);
  const int child = Fork();
  Write(0, "a", 0, 2000);
  Write(child, "a", 2000, 900);
  LateLook();
  EXPECT_GE(Parent(), 1980);
  EXPECT_GE(Child(), 891);
  EXPECT_LE(Unattributed(), 29);
}

TEST_P(FirstLookTest, ChildThatRanAProgram) {
  const int child = Fork();
  Write(child, "a", 0, 300);
  Do("run " + std::to_string(child));
  LateLook();
  EXPECT_LE(Parent(), kOther);
  EXPECT_LE(Child(), 300 + kOther);
  EXPECT_GE(Child() + Unattributed(), 300);
}

TEST_P(FirstLookTest, ChildThatIgnoresItsChildren) {
  const int child = Fork();
  Write(child, "a", 0, 300);
  Do("run " + std::to_string(child) + " ignoring");
  LateLook();
  EXPECT_LE(Parent(), kOther);
  EXPECT_GE(Child() + Unattributed(), 300);
}

TEST_P(FirstLookTest, ParentThatRanAProgram) {
  workload().Map(0, "b", 300);
  const int child = Fork();
  Write(0, "b", 0, 300);
  Write(child, "b", 0, 300);
  Do("run 0");
  LateLook();
  EXPECT_LE(Parent() + Child(), kOther);
}

TEST_P(FirstLookTest, GrowthOnBothSidesBeforeAnotherFork) {
  workload().Map(0, "b", 300);
  const int child = Fork();
  Write(child, "b", 0, 300);
  Write(0, "b", 0, 300);
  Fork();
  LateLook();
  EXPECT_LE(Parent() + Child(), kOther);
}

TEST_P(FirstLookTest, GrowthWhileWorkersAreForked) {
  constexpr size_t kWorkers = 8;
  constexpr size_t kEach = 200;
  workload().Map(0, "b", kWorkers * kEach);
  for (size_t i = 0; i < kWorkers; ++i) {
    const int worker = Fork();
    Write(0, "b", i * kEach, kEach);
    Write(worker, "b", i * kEach, kEach);
  }
  LateLook();
  EXPECT_LE(Parent() + Child(), kWorkers * kOther);
}

// The root becomes the subreaper, so it adopts the child of a process that ends.
TEST_P(FirstLookTest, WorkerForkedThroughAProcessThatEnds) {
  Do("subreaper");
  const int worker = Fork();
  Write(worker, "a", 0, 500);
  workload().ForkDouble(worker);
  LateLook();
  EXPECT_LE(Parent(), kOther);
  EXPECT_LE(Child(), 500 + kOther);
  EXPECT_GE(Child() + Unattributed(), 500);
}

TEST_P(FirstLookTest, ChainOfWorkersForkedThroughProcessesThatEnd) {
  Do("subreaper");
  const int first = Fork();
  Write(first, "a", 0, 500);
  const int second = workload().ForkDouble(first).id;
  Write(second, "a", 400, 500);
  workload().ForkDouble(second);
  Write(0, "a", 0, 900);  // the last holder of most of them
  LateLook();
  EXPECT_LE(Parent(), kOther);
  EXPECT_LE(Child(), 1000 + kOther);
  EXPECT_GE(Child() + Unattributed(), 1000 - 100);
}

// Likewise, but the worker has ended before the look.
TEST_P(FirstLookTest, AdoptedGrandchild) {
  Do("subreaper");
  const int worker = Fork();
  Write(worker, "a", 0, 500);
  workload().ForkDouble(worker);
  Do("exit " + std::to_string(worker));
  Write(0, "a", 0, 500);
  LateLook();
  EXPECT_LE(Parent(), kOther);
  EXPECT_GE(Child() + Unattributed(), 500);
}

}  // namespace
}  // namespace cow::live
