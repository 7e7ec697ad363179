// Tests of the published values while a pass spans intervals: forks, ends, and small families beside large ones.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <initializer_list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "collectors/engine/engine.h"
#include "collectors/engine/scan_turns.h"
#include "tests/support/declared.h"
#include "tests/support/fixture_process.h"
#include "tests/support/pass_control.h"

namespace cow::collectors {
namespace {

using test::Labels;

constexpr uint64_t kHeap = 0x10000000;
constexpr uint64_t kPageBytes = 4096;
constexpr uint64_t kWindowPages = 512;

// Each interval has room for a fixed number of windows. `listed` is called when its process list is in use.
class SteppedControl : public PassControl {
 public:
  // `cost`: least CPU time of each step, on any machine.
  SteppedControl(int steps, std::function<void()> listed, std::chrono::nanoseconds cost)
      : steps_(steps), left_(steps), listed_(std::move(listed)), cost_(cost) {}

  bool Continue() override {
    for (const auto begin = ThreadCpuTime(); ThreadCpuTime() - begin < cost_;) {
    }
    if (left_-- > 0) return true;
    left_ = steps_ - 1;
    return ++interval_ < kMost;
  }
  uint64_t Interval() const override { return interval_; }
  std::chrono::nanoseconds Left() override { return std::chrono::nanoseconds(1); }
  void Listed(bool /*changed*/) override { listed_(); }

 private:
  static constexpr uint64_t kMost = 10000;

  int steps_;
  int left_;
  std::function<void()> listed_;
  std::chrono::nanoseconds cost_;
  uint64_t interval_ = 0;
};

class EngineIntervalsTest : public testing::Test {
 protected:
  EngineIntervalsTest() {
    options_.collectors = {"cow", "faults", "sharing"};
    options_.full_every = std::chrono::hours(1);
    options_.interval = std::chrono::hours(1);  // all readings of the test fall within the last interval
    host_.tree().WriteFile("proc/vmstat", "pswpin 0\npswpout 0\nthp_collapse_alloc 0\n");
  }

  void Start() {
    host_.Sync();
    engine_ = std::make_unique<Engine>(host_.Root(), options_);
  }
  void Pass() {
    host_.Sync();
    test::NoControl control;
    ASSERT_TRUE(engine_->RunPass(control));
    Collect();
  }
  void Collect() { families_ = test::CollectDeclared(*engine_); }
  // Runs a pass with `steps` steps per interval. Passes the number of earlier process lists to `listed`. Returns the
  // total number of lists.
  uint64_t SteppedPass(int steps, const std::function<void(uint64_t lists)>& listed,
                       std::chrono::nanoseconds cost = {}) {
    host_.Sync();
    uint64_t lists = 0;
    SteppedControl control(
        steps,
        [&] {
          Collect();
          listed(lists++);
        },
        cost);
    EXPECT_TRUE(engine_->RunPass(control));
    Collect();
    return lists;
  }

  std::optional<double> Value(const std::string& name, Labels labels, const std::string& group = "app") const {
    labels["group"] = group;
    return test::ValueOf(families_, name, labels);
  }
  double Pages(const std::string& name, Labels labels = {}) const {
    return Value(name, std::move(labels)).value_or(-1) / static_cast<double>(kPageBytes);
  }
  double Resident(const std::string& sharing) const {
    return Pages("cow_resident_bytes", {{"backing", "anon"}, {"sharing", sharing}});
  }
  double Coverage() const { return Value("cow_scan_coverage_ratio", {}).value_or(-1); }
  // The error of exposure is at most the memory that is not covered.
  void ExpectBound(double exposure, const std::string& when) const {
    const double resident = Resident("private") + Resident("shared");
    EXPECT_LE(std::abs(Pages("cow_exposure_bytes") - exposure), (1 - Coverage()) * resident + 1e-6)
        << when << ": " << Pages("cow_exposure_bytes") << " of " << exposure << " at coverage " << Coverage();
  }
  void BreakPages(pid_t pid, uint64_t first, uint64_t pages, uint64_t frame) {
    for (uint64_t page = first; page < first + pages; ++page) {
      host_.At(pid).SetPage(kHeap + page * kPageBytes, frame + page);
    }
    host_.At(pid).minor_faults += pages;
  }

  test::FixtureHost host_;
  EngineOptions options_;
  std::unique_ptr<Engine> engine_;
  std::vector<prometheus::MetricFamily> families_;
};

TEST_F(EngineIntervalsTest, AChildCountsBeforeItIsRead) {
  constexpr uint64_t kPages = 16 * kWindowPages;
  constexpr double kAll = kPages;
  host_.GrantAllRights();  // forks are known only if every process is visible
  host_.Add(100).MapPages(kHeap, kPages, 100000, "[heap]");
  Start();
  Pass();
  EXPECT_EQ(Coverage(), 1);
  EXPECT_EQ(Resident("private"), kAll);
  host_.Fork(100, 101);
  BreakPages(101, 0, 1000, 200000);
  BreakPages(100, 5000, 500, 300000);
  const uint64_t intervals = SteppedPass(2, [&](uint64_t interval) {
    EXPECT_EQ(Value("cow_processes", {}), 2);
    EXPECT_EQ(Value("cow_families", {}), 1);
    EXPECT_NEAR(Resident("private") + Resident("shared"), 2 * kAll, 1);
    ExpectBound(kAll - 1500, "interval " + std::to_string(interval));
    if (interval < 5) {  // later intervals may find all windows read
      EXPECT_LT(Coverage(), 1);
    }
    if (interval != 0) return;
    EXPECT_EQ(Pages("cow_exposure_bytes"), kAll) << "a child shares what its parent has";
    EXPECT_EQ(Pages("cow_footprint_bytes"), kAll);
    EXPECT_EQ(Resident("shared"), 2 * kAll);
  });
  EXPECT_GE(intervals, 6U);
  EXPECT_EQ(Coverage(), 1);
  EXPECT_EQ(Pages("cow_exposure_bytes"), kAll - 1500);
  EXPECT_EQ(Pages("cow_footprint_bytes"), kAll + 1500);
  EXPECT_EQ(Value("cow_breaks_total", {{"side", "child"}}), 1000);
  EXPECT_EQ(Value("cow_breaks_total", {{"side", "parent"}}), 500);

  // A second child of a parent whose windows are known.
  host_.Fork(100, 102, 300);
  const double exposure = kAll - 1500 + kAll;
  SteppedPass(2, [&](uint64_t interval) {
    EXPECT_EQ(Value("cow_processes", {}), 3);
    ExpectBound(exposure, "second child, interval " + std::to_string(interval));
    EXPECT_EQ(Pages("cow_exposure_bytes"), exposure);
  });
  EXPECT_EQ(Coverage(), 1);
  EXPECT_EQ(Pages("cow_exposure_bytes"), exposure);
}

TEST_F(EngineIntervalsTest, AChildThatComesDuringAScanCountsAtOnce) {
  constexpr uint64_t kPages = 16 * kWindowPages;
  constexpr double kAll = kPages;
  host_.Add(100).MapPages(kHeap, kPages, 100000, "[heap]");
  host_.Fork(100, 101);
  Start();
  Pass();
  BreakPages(101, 0, 10, 200000);
  SteppedPass(2, [&](uint64_t interval) {
    if (interval == 2) {
      host_.Fork(100, 102, 300);
      host_.Sync();
    }
    if (interval < 3) return;
    EXPECT_EQ(Value("cow_processes", {}), 3) << interval;
    EXPECT_EQ(Pages("cow_exposure_bytes"), 2 * kAll - 10) << interval;
    EXPECT_LT(Coverage(), 1) << interval;
  });
  Pass();
  EXPECT_EQ(Coverage(), 1);
  EXPECT_EQ(Pages("cow_exposure_bytes"), 2 * kAll - 10);
  EXPECT_EQ(Value("cow_forks_total", {}), 1);
  EXPECT_EQ(Value("cow_breaks_total", {{"side", "child"}}), 10);
  EXPECT_EQ(Value("cow_unattributed_bytes_total", {}), 0);
}

TEST_F(EngineIntervalsTest, WhatAParentWroteBeforeItForkedAgainIsNoBreak) {
  constexpr uint64_t kPages = 8 * kWindowPages;
  host_.Add(100).MapPages(kHeap, kPages, 100000, "[heap]");
  host_.Fork(100, 101);
  Start();
  Pass();
  ++host_.At(100).minor_faults;
  SteppedPass(2, [&](uint64_t interval) {
    if (interval != 2) return;
    // New memory of the parent in a window that the scan has passed; the second child shares it.
    host_.At(100).MapPages(kHeap + kPages * kPageBytes, 4, 400000);
    host_.At(100).minor_faults += 4;
    host_.Fork(100, 102, 300);
    host_.Sync();
  });
  Pass();
  EXPECT_EQ(Pages("cow_exposure_bytes"), 2.0 * kPages + 4);
  for (const char* side : {"parent", "child", "unknown"}) {
    EXPECT_EQ(Value("cow_breaks_total", {{"side", side}}), 0) << side;
  }
}

TEST_F(EngineIntervalsTest, MembersThatEndLeaveAtOnce) {
  constexpr uint64_t kPages = 12 * kWindowPages;
  constexpr double kAll = kPages;
  host_.Add(100).MapPages(kHeap, kPages, 100000, "[heap]");
  for (pid_t pid = 101; pid <= 104; ++pid) host_.Fork(100, pid);
  BreakPages(101, 0, 700, 200000);
  Start();
  Pass();
  EXPECT_EQ(Pages("cow_exposure_bytes"), 4 * kAll - 700);
  host_.Exit(101);
  host_.Exit(102);
  SteppedPass(1, [&](uint64_t interval) {
    EXPECT_EQ(Value("cow_processes", {}), 3) << interval;
    EXPECT_EQ(Pages("cow_exposure_bytes"), 2 * kAll) << interval;
    EXPECT_EQ(Pages("cow_footprint_bytes"), kAll) << interval;
    EXPECT_EQ(Resident("shared"), 3 * kAll) << interval;
    EXPECT_EQ(Resident("private"), 0) << interval;
  });
  EXPECT_EQ(Pages("cow_exposure_bytes"), 2 * kAll);
  // The last relatives end: the rest belongs to the parent alone.
  host_.Exit(103);
  host_.Exit(104);
  SteppedPass(1, [&](uint64_t interval) {
    EXPECT_EQ(Value("cow_processes", {}), 1) << interval;
    EXPECT_EQ(Value("cow_families", {}), 0) << interval;
    EXPECT_EQ(Pages("cow_exposure_bytes"), 0) << interval;
    EXPECT_EQ(Pages("cow_footprint_bytes"), kAll) << interval;
    EXPECT_EQ(Resident("shared"), 0) << interval;
    EXPECT_EQ(Resident("private"), kAll) << interval;
  });
  EXPECT_EQ(Pages("cow_unshared_bytes_total", {{"cause", "exit"}}), kAll);
  EXPECT_EQ(Pages("cow_resident_bytes", {{"backing", "anon"}, {"sharing", "private"}}), kAll);
}

TEST_F(EngineIntervalsTest, MembersThatEndDuringAScanLeaveInTheNextInterval) {
  constexpr uint64_t kPages = 12 * kWindowPages;
  constexpr double kAll = kPages;
  host_.Add(100).MapPages(kHeap, kPages, 100000, "[heap]");
  for (pid_t pid = 101; pid <= 103; ++pid) host_.Fork(100, pid);
  Start();
  Pass();
  BreakPages(101, 0, 100, 200000);
  BreakPages(103, 6000, 100, 300000);
  SteppedPass(2, [&](uint64_t interval) {
    if (interval == 3) {
      host_.Exit(101);
      host_.Exit(102);
      host_.Sync();
    }
    if (interval < 4) return;
    EXPECT_EQ(Value("cow_processes", {}), 2) << interval;
    EXPECT_LE(Pages("cow_exposure_bytes"), kAll) << interval;
    EXPECT_GE(Pages("cow_exposure_bytes"), kAll - 100) << interval;
    EXPECT_EQ(Resident("shared") + Resident("private"), 2 * kAll) << interval;
  });
  Pass();
  EXPECT_EQ(Pages("cow_exposure_bytes"), kAll - 100);
  EXPECT_EQ(Value("cow_breaks_total", {{"side", "child"}}), 200);
}

// The page tables are open, so only the list of processes is missing.
TEST_F(EngineIntervalsTest, ScansGoOnWithoutAProcessList) {
  constexpr uint64_t kPages = 12 * kWindowPages;
  constexpr double kAll = kPages;
  host_.Add(100).MapPages(kHeap, kPages, 100000, "[heap]");
  host_.Fork(100, 101);
  Start();
  Pass();
  BreakPages(101, 0, 100, 200000);
  BreakPages(101, 6000, 100, 300000);
  const std::filesystem::path proc = host_.tree().Path("proc");
  const std::filesystem::path away = host_.tree().Path("away");
  const uint64_t lists = SteppedPass(2, [&](uint64_t interval) {
    if (interval == 1) std::filesystem::rename(proc, away);
  });
  std::filesystem::rename(away, proc);
  EXPECT_EQ(lists, 2U) << "later intervals had none";
  EXPECT_EQ(Value("cow_breaks_total", {{"side", "child"}}), 200);
  EXPECT_EQ(Pages("cow_exposure_bytes"), kAll - 200);
}

TEST_F(EngineIntervalsTest, AFamilyThatEndsLeavesNothing) {
  constexpr uint64_t kPages = 12 * kWindowPages;
  host_.Add(100).MapPages(kHeap, kPages, 100000, "[heap]");
  for (pid_t pid = 101; pid <= 110; ++pid) host_.Fork(100, pid);
  Start();
  Pass();
  ++host_.At(101).minor_faults;
  SteppedPass(1, [&](uint64_t interval) {
    if (interval == 2) {
      for (pid_t pid = 100; pid <= 110; ++pid) host_.Exit(pid);
      host_.Sync();
    }
    if (interval < 3) return;
    EXPECT_EQ(Value("cow_processes", {}), 0) << interval;
    EXPECT_EQ(Pages("cow_exposure_bytes"), 0) << interval;
    EXPECT_EQ(Pages("cow_footprint_bytes"), 0) << interval;
    EXPECT_EQ(Resident("shared") + Resident("private"), 0) << interval;
  });
}

// A large family takes many intervals; breaks of a small one are counted in each of them.
TEST_F(EngineIntervalsTest, ASmallFamilyIsReadInEachInterval) {
  test::FixtureProcess& large = host_.Add(100);
  large.comm = "large";
  large.MapPages(kHeap, 200 * kWindowPages, 1000000, "[heap]");
  host_.Fork(100, 101);
  test::FixtureProcess& small = host_.Add(200);
  small.layout = 0x800000;
  small.MapPages(kHeap, kWindowPages, 900000, "[heap]");
  host_.Fork(200, 201);
  Start();
  Pass();
  ++host_.At(101).minor_faults;
  uint64_t broken = 0;
  double counted = 0;
  const auto read_and_break = [&](uint64_t interval) {
    counted = Value("cow_breaks_total", {{"side", "child"}}).value_or(-1);
    // Breaks before the previous interval.
    if (interval >= 2) {
      EXPECT_GE(counted, static_cast<double>(broken) - 1) << interval;
    }
    BreakPages(201, broken, 1, 2000000);
    ++broken;
    host_.Sync();
  };
  // A turn of the large family has room for a few of its windows.
  const uint64_t intervals = SteppedPass(20, read_and_break, ScanQueue::kLeast / 4);
  EXPECT_GE(intervals, 5U);
  EXPECT_GE(counted, static_cast<double>(intervals) - 2);
}

TEST_F(EngineIntervalsTest, ALongFirstLookIsToldOnce) {
  host_.Add(100).MapPages(kHeap, 16 * kWindowPages, 100000, "[heap]");
  Start();
  Pass();
  engine_->TakeNotices();
  host_.Fork(100, 101);
  size_t told = 0;
  SteppedPass(2, [&](uint64_t /*interval*/) {
    for (const ModeNotice& notice : engine_->TakeNotices()) {
      if (notice.intervals == 0) continue;
      ++told;
      EXPECT_EQ(notice.group, "app");
      EXPECT_EQ(notice.pid, 100);
      EXPECT_GT(notice.intervals, 1);
    }
  });
  EXPECT_EQ(told, 1U);
}

// A member that is not read may have written since its change signals were read.
TEST_F(EngineIntervalsTest, AWindowIsAsOldAsTheSignalsOfAMemberThatIsNotRead) {
  constexpr std::chrono::milliseconds kBetween{5};
  host_.Add(100).MapPages(kHeap, 8, 1000, "[heap]");
  host_.Fork(100, 101);
  host_.Fork(100, 102);
  Start();
  Pass();
  const auto seconds = [] {
    return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  };
  const auto read_at = [this, &seconds, kBetween](std::initializer_list<pid_t> writers) {
    for (const pid_t pid : writers) host_.At(pid).minor_faults += 1;
    double listed = 0;
    SteppedPass(1000, [&](uint64_t) {
      listed = seconds();
      std::this_thread::sleep_for(kBetween);
    });
    return Value("cow_scan_timestamp_seconds", {}).value_or(0) - listed;
  };
  EXPECT_LT(read_at({101}), 0);
  EXPECT_GT(read_at({100, 101, 102}), 0);
}

TEST_F(EngineIntervalsTest, AnAbandonedScanGoesOn) {
  constexpr uint64_t kPages = 16 * kWindowPages;
  host_.Add(100).MapPages(kHeap, kPages, 100000, "[heap]");
  host_.Fork(100, 101);
  Start();
  Pass();
  BreakPages(101, 0, 1, 200000);
  BreakPages(101, 8000, 1, 300000);
  host_.Sync();
  for (int i = 0; i < 3; ++i) {
    test::Abandon control;
    EXPECT_FALSE(engine_->RunPass(control));
  }
  Pass();
  EXPECT_EQ(Value("cow_breaks_total", {{"side", "child"}}), 2);
}

}  // namespace
}  // namespace cow::collectors
