#include "collectors/engine/fork_watch.h"

#include <elf.h>
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/fake_proc_events.h"
#include "tests/support/fixture_process.h"

namespace cow::collectors {
namespace {

using netlink::ProcEvent;
using test::FakeEvents;
using test::Told;
using Kind = ProcEvent::Kind;

class CountingInterposer : public procfs::Interposer {
 public:
  std::optional<Error> Before(procfs::Access access, const std::string& path) override {
    if (access == procfs::Access::kRead && path.ends_with("/proc")) ++lists;
    if (access == procfs::Access::kOpen && path.ends_with("/stat")) ++stats;
    return std::nullopt;
  }
  int lists = 0;
  int stats = 0;
};

class ForkWatchTest : public testing::Test {
 protected:
  ForkWatchTest() {
    host_.Add(100).layout = 0x500000;
    host_.Add(50).layout = 0x600000;
    host_.Add(2).flags = 0x208040;
    Pass();
  }
  void Start(bool events) {
    watch_ = std::make_unique<ForkWatch>(root_, events ? std::make_unique<FakeEvents>(told_) : nullptr);
    EXPECT_FALSE(Look());
  }
  void Pass() {
    host_.Sync();
    ASSERT_TRUE(table_.Update());
  }
  bool Look() {
    host_.tree().WriteFile("proc/stat", "cpu  0\nprocesses " + std::to_string(forks_) + "\n");
    host_.Sync();
    return watch_->Look(table_);
  }
  void Fork(pid_t parent, pid_t child, uint64_t start_ticks = 200) {
    ++forks_;
    host_.Fork(parent, child, start_ticks);
    told_.events.push_back({Kind::kFork, child, parent});
  }
  void Exec(pid_t pid) {
    host_.Exec(pid, 0x900000);
    told_.events.push_back({Kind::kExec, pid, 0});
  }
  void Exit(pid_t pid) {
    host_.Exit(pid);
    told_.events.push_back({Kind::kExit, pid, 0});
  }

  test::FixtureHost host_;
  std::shared_ptr<CountingInterposer> counter_ = std::make_shared<CountingInterposer>();
  procfs::Root root_{host_.Root().procfs(), host_.Root().sysfs(), counter_};
  memory::ProcessTable table_{host_.Root(), 100};
  Told told_;
  int forks_ = 1000;
  std::unique_ptr<ForkWatch> watch_;
};

// Tested with and without events.
class EitherForkWatchTest : public ForkWatchTest, public testing::WithParamInterface<bool> {
 protected:
  EitherForkWatchTest() { Start(GetParam()); }
};

INSTANTIATE_TEST_SUITE_P(WithoutAndWithEvents, EitherForkWatchTest, testing::Bool());

TEST_P(EitherForkWatchTest, ForkOfAKnownProcessIsToldAtTheSecondLook) {
  Fork(100, 101);
  EXPECT_FALSE(Look());
  EXPECT_TRUE(Look());
  EXPECT_FALSE(Look()) << "told once";
  Pass();
  EXPECT_FALSE(Look());
  Fork(101, 102);
  Fork(100, 103);
  EXPECT_FALSE(Look());
  EXPECT_TRUE(Look());
  EXPECT_FALSE(Look());
}

// Without CAP_SYS_PTRACE stat hides the layout of another user's process.
TEST_P(EitherForkWatchTest, ForkOfAnotherUsersProcessIsTold) {
  table_ = memory::ProcessTable(host_.Root(), 100, 8, memory::LayoutSource::kAuxiliaryVector);
  host_.At(100).auxv = {AT_ENTRY, 0x500100, AT_RANDOM, 0x7e003000, AT_NULL, 0};
  host_.At(100).layout = 0;
  host_.Add(60);
  Pass();
  EXPECT_FALSE(Look());
  Fork(100, 101);
  EXPECT_FALSE(Look());
  EXPECT_TRUE(Look());
}

TEST_P(EitherForkWatchTest, ThoseThatExecOrEndAreNothing) {
  Fork(100, 101);
  Exec(101);
  Fork(100, 102);
  Fork(100, 103);
  EXPECT_FALSE(Look());
  Exec(102);
  Exit(103);
  EXPECT_FALSE(Look());
  EXPECT_FALSE(Look());
}

TEST_P(EitherForkWatchTest, PidGivenOutAgainBeginsAnew) {
  Fork(100, 101, 200);
  EXPECT_FALSE(Look());
  Exit(101);
  Fork(100, 101, 300);
  EXPECT_FALSE(Look());
  EXPECT_TRUE(Look());
}

TEST_P(EitherForkWatchTest, NothingIsReadWhereNothingWasForked) {
  Fork(100, 101);
  Exec(101);
  Look();
  *counter_ = CountingInterposer();
  for (int i = 0; i < 10; ++i) EXPECT_FALSE(Look());
  EXPECT_EQ(counter_->lists, 0);
  EXPECT_EQ(counter_->stats, 0);
}

TEST_P(EitherForkWatchTest, ShortLivesStartNothing) {
  for (int i = 0; i < 10; ++i) {
    for (pid_t pid = 1000; pid < 1020; ++pid) Fork(100, pid + 20 * i, uint64_t{200} + static_cast<uint64_t>(i));
    EXPECT_FALSE(Look());
    for (pid_t pid = 1000; pid < 1020; ++pid) Exit(pid + 20 * i);
  }
  EXPECT_FALSE(Look());
}

TEST_F(ForkWatchTest, StrangersAreReadOnce) {
  Start(false);
  *counter_ = CountingInterposer();
  Fork(100, 101);
  Exec(101);
  Look();
  EXPECT_EQ(counter_->stats, 1) << "the kernel thread was read at the first look";
  Fork(100, 102);
  Exec(102);
  Look();
  EXPECT_EQ(counter_->stats, 2);
  EXPECT_EQ(counter_->lists, 2);
}

TEST_F(ForkWatchTest, ForkBeforeTheEventsBeganIsSeen) {
  Fork(100, 101);
  told_.events.clear();
  Start(true);
  EXPECT_TRUE(Look());
}

TEST_F(ForkWatchTest, EventsNeedNoList) {
  Start(true);
  *counter_ = CountingInterposer();
  Fork(100, 101);
  Look();
  EXPECT_TRUE(Look());
  EXPECT_EQ(counter_->lists, 0);
}

TEST_F(ForkWatchTest, LostEventsAreMadeUpForByTheList) {
  Start(true);
  *counter_ = CountingInterposer();
  Fork(100, 101);
  told_.events.clear();
  told_.complete = false;
  EXPECT_FALSE(Look());
  EXPECT_TRUE(Look());
  EXPECT_EQ(counter_->lists, 1);
  EXPECT_EQ(watch_->overruns(), 1U);
}

}  // namespace
}  // namespace cow::collectors
