// Threads and children that appear while a recorder starts to watch: each fault has one record.
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <ctime>
#include <fstream>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "collectors/procfs/root.h"
#include "tests/live/recording.h"

namespace cow::test {
namespace {

using faults::FaultRecord;
using faults::ForkRecord;
using Steps = ChildProcess::Steps;

TEST_F(RecordingTest, ThreadsBeforeAndAfter) {
  const SharedPages memory(400);
  const ChildProcess child([&](const Steps& steps) {
    std::atomic<bool> go = false;
    std::vector<std::thread> threads;
    for (size_t i = 0; i < 3; ++i) {
      threads.emplace_back([&, i] {
        while (!go) std::this_thread::sleep_for(std::chrono::milliseconds(1));
        memory.Write(100 * i, 100);
      });
    }
    steps.Report();
    if (!steps.AwaitGo()) return 1;
    go = true;
    threads.emplace_back([&] { memory.Write(300, 100); });
    for (std::thread& thread : threads) thread.join();
    steps.Report();
    steps.AwaitGo();
    return 0;
  });
  ASSERT_TRUE(child.AwaitReport());
  Open();
  Add(child.pid());
  child.Go();
  ASSERT_TRUE(child.AwaitReport());
  TakeAll();
  EXPECT_EQ(PagesOf(memory, child.pid()), Range(0, 400));
  std::map<pid_t, size_t> pages_of_thread;
  for (const auto& fault : Of<FaultRecord>(child.pid())) {
    if (memory.Find(fault.address)) ++pages_of_thread[fault.tid];
  }
  EXPECT_EQ(pages_of_thread.size(), 4U);
  for (const auto& [tid, pages] : pages_of_thread) EXPECT_EQ(pages, 100U) << tid;
  const auto forks = Of<ForkRecord>(child.pid());
  ASSERT_EQ(forks.size(), 1U) << "the fourth thread";
  EXPECT_TRUE(forks.front().is_thread);
  EXPECT_TRUE(pages_of_thread.contains(forks.front().tid));
}

// Four threads make short threads all the time. Each of these writes a page that no other writes.
TEST_F(RecordingTest, ThreadsThatComeAndGo) {
  constexpr size_t kPages = 20000;
  const SharedPages memory(kPages);
  const SharedCounter next;
  const ChildProcess child([&](const Steps& steps) {
    const auto make = [&] {
      while (*next < kPages) {
        std::thread([&] {
          const size_t page = (*next)++;
          if (page < kPages) memory.Write(page, 1);
        }).join();
      }
    };
    std::vector<std::thread> makers;
    makers.reserve(4);
    for (int i = 0; i < 4; ++i) makers.emplace_back(make);
    steps.Report();
    for (std::thread& maker : makers) maker.join();
    steps.Report();
    steps.AwaitGo();
    return 0;
  });
  ASSERT_TRUE(child.AwaitReport());
  Open({.ring_bytes = size_t{64} << 20U});
  Add(child.pid());
  const size_t first_watched = *next;
  // Adding it again finds nothing new.
  Add(child.pid());
  ASSERT_LT(first_watched, kPages) << "the threads ended before they were watched";
  ASSERT_TRUE(child.AwaitReport());
  TakeAll();
  const std::vector<size_t> pages = PagesOf(memory, child.pid());
  EXPECT_EQ(recorder().lost(), 0U);
  EXPECT_EQ(std::adjacent_find(pages.begin(), pages.end()), pages.end()) << "a fault with two records";
  const std::vector<size_t> watched(std::lower_bound(pages.begin(), pages.end(), first_watched), pages.end());
  EXPECT_EQ(watched, Range(first_watched, kPages - first_watched));
  RecordProperty("doubles", static_cast<int>(recorder().doubles()));
  RecordProperty("descriptors", static_cast<int>(recorder().descriptors()));
}

std::vector<pid_t> ChildrenOf(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/task/" + std::to_string(pid) + "/children");
  std::vector<pid_t> pids;
  for (pid_t child = 0; file >> child;) pids.push_back(child);
  return pids;
}

// A process forks all the time, and its children are added too, although most of them have inherited the events.
TEST_F(RecordingTest, ChildrenThatComeAndGo) {
  constexpr size_t kPages = 20;
  const SharedPages memory(kPages);
  const SharedCounter ended;
  const ChildProcess parent([&](const Steps& steps) {
    steps.Report();
    while (*ended == 0) {
      const pid_t pid = fork();
      if (pid == 0) {
        memory.Write(0, kPages / 2);
        usleep(3000);
        memory.Write(kPages / 2, kPages / 2);
        _exit(0);
      }
      usleep(500);
      while (waitpid(-1, nullptr, WNOHANG) > 0) {
      }
    }
    while (waitpid(-1, nullptr, 0) > 0) {
    }
    steps.Report();
    steps.AwaitGo();
    return 0;
  });
  ASSERT_TRUE(parent.AwaitReport());
  Open();
  std::vector<faults::Record> records;
  uint64_t watched_since = 0;
  for (int i = 0; i < 20; ++i) {
    // The children first, so that the parent forks while it is not yet watched.
    std::vector<pid_t> pids = ChildrenOf(parent.pid());
    pids.push_back(parent.pid());
    static_cast<void>(recorder().Add(pids));  // some of them have ended
    if (i == 0) {
      timespec now{};
      clock_gettime(CLOCK_MONOTONIC, &now);
      watched_since = static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  *ended = 1;
  ASSERT_TRUE(parent.AwaitReport());
  TakeAll();
  EXPECT_EQ(recorder().lost(), 0U);
  size_t complete = 0;
  std::map<pid_t, std::vector<size_t>> pages_of;
  for (const faults::Record& record : this->records()) {
    const auto* fork = std::get_if<ForkRecord>(&record);
    if (fork == nullptr || fork->parent != parent.pid()) continue;
    const std::vector<size_t> pages = PagesOf(memory, fork->pid);
    EXPECT_EQ(std::adjacent_find(pages.begin(), pages.end()), pages.end()) << "a fault with two records";
    if (fork->time_ns < watched_since) continue;
    EXPECT_EQ(pages, Range(0, kPages)) << fork->pid;
    ++complete;
  }
  EXPECT_GT(complete, 20U);
  RecordProperty("doubles", static_cast<int>(recorder().doubles()));
  // All children have ended, and their events are closed. The parent's own remain.
  TakeAll();
  EXPECT_LE(recorder().descriptors(), 2 * std::thread::hardware_concurrency());
}

TEST_F(RecordingTest, RecordsTellThatAChildIsWatched) {
  const SharedPages memory(100);
  const SharedCounter child;
  const ChildProcess parent([&](const Steps& steps) {
    steps.Report();
    if (!steps.AwaitGo()) return 1;
    const pid_t pid = fork();
    if (pid == 0) {
      *child = static_cast<size_t>(getpid());
      steps.Report();
      steps.AwaitGo();
      memory.Write(0, 100);
      steps.Report();
      steps.AwaitGo();
      _exit(0);
    }
    waitpid(pid, nullptr, 0);
    return 0;
  });
  ASSERT_TRUE(parent.AwaitReport());
  Open();
  Add(parent.pid());
  parent.Go();
  ASSERT_TRUE(parent.AwaitReport());
  const size_t before = recorder().descriptors();
  const auto pid = static_cast<pid_t>(size_t{*child});
  Add(pid);
  EXPECT_EQ(recorder().descriptors(), before);
  parent.Go();
  ASSERT_TRUE(parent.AwaitReport());
  TakeAll();
  EXPECT_EQ(PagesOf(memory, pid), Range(0, 100));
  EXPECT_EQ(recorder().doubles(), 0U);
  parent.Go();
}

#ifndef COW_SANITIZED  // sanitizers write memory of their own, and do not know of memory that processes share
// A parent that is watched, and its child that inherited the events and has the parent's memory, so that it starts
// without a fault. It writes when it may go on.
class FamilyTest : public RecordingTest {
 protected:
  void WatchParent(const faults::FaultRecorder::Options& options) {
    ASSERT_TRUE(parent_.AwaitReport());
    LetWrite(0);  // ends the first child
    Open(options);
    Add(parent_.pid());
    ASSERT_TRUE(parent_.Go());
    ASSERT_TRUE(parent_.AwaitReport());
  }
  pid_t Child() const { return static_cast<pid_t>(size_t{*child_}); }
  void LetWrite(size_t pages) {
    *pages_ = pages;
    ASSERT_TRUE(parent_.Go());
    ASSERT_TRUE(parent_.AwaitReport());
  }

  const SharedPages memory_{2000};
  const SharedCounter child_;
  const SharedCounter pages_;

 private:
  // The child takes its parent's steps.
  int RunChild() const {
    *child_ = static_cast<size_t>(getpid());
    while (steps_->Report() && steps_->AwaitGo() && *pages_ > 0) memory_.Write(0, *pages_);
    return 0;
  }
  int RunParent(const Steps& steps) {
    steps_ = &steps;
    const auto make_child = [this] {
      const auto run = [](void* self) { return static_cast<FamilyTest*>(self)->RunChild(); };
      const pid_t pid = clone(run, stack_.data() + stack_.size(), CLONE_VM | SIGCHLD, this);
      return pid > 0 && waitpid(pid, nullptr, 0) == pid;
    };
    // A first child uses all that is needed to make one, so that the second is made without a fault.
    stack_.fill('\1');
    return make_child() && steps.Report() && steps.AwaitGo() && make_child() ? 0 : 1;
  }

  const Steps* steps_ = nullptr;
  alignas(64) std::array<char, size_t{64} << 10U> stack_{};
  const ChildProcess parent_{[this](const Steps& steps) { return RunParent(steps); }};
};

// The child has no record yet, and its parent's first record is the fork, which does not tell whether the parent was
// watched when the fork began. So the recorder opens events for the child, which has its parent's too.
TEST_F(FamilyTest, EveryFaultOfAChildWithTwoEvents) {
  WatchParent({});
  const size_t before = recorder().descriptors();
  Add(Child());
  EXPECT_GT(recorder().descriptors(), before);
  LetWrite(2000);
  TakeAll();
  EXPECT_EQ(PagesOf(memory_, Child()), Range(0, 2000));
  EXPECT_GE(recorder().doubles(), 2000U);
}

TEST_F(FamilyTest, SomeFaultsOfAChildWithTwoEvents) {
  constexpr uint32_t kOneIn = 500;
  WatchParent({.one_in = kOneIn});
  const size_t before = recorder().descriptors();
  Add(Child());
  EXPECT_GT(recorder().descriptors(), before);
  LetWrite(size_t{4} * kOneIn);
  TakeAll();
  // Each CPU counts on its own, so two CPUs may have up to a whole period each that is not full.
  const size_t records = PagesOf(memory_, Child()).size();
  EXPECT_GE(records, 2U);
  EXPECT_LE(records, 4U);
  EXPECT_GE(recorder().doubles(), 2U);
}

#endif

// A second recorder watches the same process. The kernel stamps both records of a fault with the id of one event.
TEST_F(RecordingTest, TwoRecordersOfOneProcess) {
  const SharedPages memory(1000);
  const ChildProcess child([&](const Steps& steps) {
    steps.Report();
    steps.AwaitGo();
    memory.Write(0, 1000);
    steps.Report();
    steps.AwaitGo();
    return 0;
  });
  ASSERT_TRUE(child.AwaitReport());
  Open();
  Add(child.pid());
  auto other = faults::FaultRecorder::Open(procfs::Root(), {});
  ASSERT_TRUE(other) << other.error().ToString();
  ASSERT_TRUE(other->Add(child.pid()));
  child.Go();
  ASSERT_TRUE(child.AwaitReport());
  std::vector<faults::Record> records;
  other->DrainAll(records);
  TakeAll();
  EXPECT_EQ(PagesOf(memory, child.pid()), Range(0, 1000));
  EXPECT_GE(records.size(), 1000U);
  ExpectOrderOfTime();
  RecordProperty("foreign_stamps", static_cast<int>(recorder().foreign_stamps()));
  RecordProperty("foreign_stamps_of_other", static_cast<int>(other->foreign_stamps()));
}

}  // namespace
}  // namespace cow::test
