// Pages merged by KSM: equal by content, not by fork.
#include <chrono>
#include <filesystem>
#include <string>
#include <thread>

#include "tests/live/explained.h"
#include "tests/live/host.h"
#include "tests/live/live.h"

namespace cow::live {
namespace {

constexpr int kMergeable = 12;
constexpr int kUnmergeable = 13;

// Runs ksmd during its life; unmerges all pages at the end.
class MergingHost {
 public:
  MergingHost()
      : pages_("/sys/kernel/mm/ksm/pages_to_scan", "20000"),
        sleep_("/sys/kernel/mm/ksm/sleep_millisecs", "1"),
        run_(kRun, "1") {}
  ~MergingHost() { WriteHostFile(kRun, "2"); }
  MergingHost(const MergingHost&) = delete;
  MergingHost& operator=(const MergingHost&) = delete;

  // Starts it again if another program has stopped it.
  void GoOn() const {
    if (run_.Number() != 1) run_.Set("1");
  }

 private:
  static constexpr const char* kRun = "/sys/kernel/mm/ksm/run";

  HurriedThread thread_{"ksmd"};
  HostSetting pages_;
  HostSetting sleep_;
  HostSetting run_;
};

class AnyMergingTest : public LiveTest {
 protected:
  void SetUp() override {
    LiveTest::SetUp();
    if (!std::filesystem::exists("/sys/kernel/mm/ksm/run")) GTEST_SKIP() << KernelLacks("KSM");
    flagged_ = Pass().At("cow_exporter_capability{feature=ksm_flag}") != 0;
  }
  // True if the kernel shows which pages are merged.
  bool flagged() const { return flagged_; }
  void Advise(int id, const std::string& name, int advice, size_t pages) {
    Do("madvise " + std::to_string(id) + " " + name + " " + std::to_string(advice) + " 0 " + std::to_string(pages));
  }
  // Forks a child that shares 100 pages with its parent. Each of the two gets `pages` equal private pages.
  int ForkBesideEqualPages(size_t pages) {
    const int child = ForkOver("a", 100);
    for (const int id : {0, child}) {
      workload().Map(id, "m", pages);
      Write(id, "m", 0, pages);
    }
    return child;
  }
  uint64_t Merged(int id) {
    return std::stoull(ReadHostFile("/proc/" + std::to_string(workload().Pid(id)) + "/ksm_merging_pages"));
  }
  // ksmd merges a page after it has found it unchanged in two rounds.
  bool AwaitMerged(const MergingHost& host, int child, uint64_t pages) {
    const auto merged = [&] { return Merged(0) + Merged(child) >= pages; };
    for (int i = 0; i < 2000 && !merged(); ++i) {
      host.GoOn();
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return merged();
  }

 private:
  bool flagged_ = false;
};

// If the kernel does not show merged pages, a family that has some reports them as unknown and makes no verdict about
// them.
TEST_F(AnyMergingTest, WhatCannotBeToldIsUnresolved) {
  constexpr size_t kPages = 300;
  const int child = ForkBesideEqualPages(kPages);
  const Sample before = Pass();
  const MergingHost ksm;
  for (const int id : {0, child}) Advise(id, "m", kMergeable, kPages);
  ASSERT_TRUE(AwaitMerged(ksm, child, 2 * kPages));
  const Sample merged = Pass();
  ExpectNoVerdict(Change(before, merged));
  if (flagged()) {
    EXPECT_EQ(merged.At(kUnresolved), 0);
  } else {
    EXPECT_GE(merged.Pages(kUnresolved), 2.0 * kPages);
  }
  Write(child, "a", 0, 20);
  EXPECT_LE(Change(merged, Pass()).BreaksOfAllSides(), 20);
  for (const int id : {0, child}) Advise(id, "m", kUnmergeable, kPages);
}

class MergingTest : public AnyMergingTest {
 protected:
  void SetUp() override {
    AnyMergingTest::SetUp();
    if (!IsSkipped() && !flagged()) GTEST_SKIP() << KernelLacks("a KSM flag that tells merged pages from others");
  }
};

TEST_F(MergingTest, EqualPrivatePagesMergeAndPart) {
  constexpr size_t kPages = 300;
  const int child = ForkBesideEqualPages(kPages);
  const Sample before = Pass();
  {
    const MergingHost ksm;
    for (const int id : {0, child}) Advise(id, "m", kMergeable, kPages);
    ASSERT_TRUE(AwaitMerged(ksm, child, 2 * kPages));
    const Sample merged = Pass();
    ExpectNoVerdict(Change(before, merged));
    EXPECT_EQ(Change(before, merged).Pages(kExposure), 0) << "not fork's sharing";
    EXPECT_EQ(merged.At(kUnmatched), before.At(kUnmatched));
    EXPECT_EQ(merged.At(kUnresolved), 0);
    // A write to a merged page copies it, but no fork shared it.
    Write(child, "m", 0, 50);
    const Sample written = Pass();
    ExpectNoVerdict(Change(merged, written));
    EXPECT_EQ(Change(merged, written).Pages(kExposure), 0);
    Advise(child, "m", kUnmergeable, kPages);
    const Sample parted = Pass();
    ExpectNoVerdict(Change(written, parted));
    EXPECT_EQ(Change(written, parted).Pages(kExposure), 0);
    // Fork shares pages as usual while KSM runs.
    Write(child, "a", 0, 20);
    const Sample after = Pass();
    EXPECT_EQ(Change(parted, after).Of(kChildBreaks), 20);
    EXPECT_EQ(Change(parted, after).Pages(kExposure), -20);
  }
  const Sample end = Pass();
  EXPECT_EQ(Change(before, end).BreaksOfAllSides(), 20);
  EXPECT_EQ(Change(before, end).UnsharedPages(), 0);
  EXPECT_EQ(Change(before, end).Pages(kUnattributed), 0);
  EXPECT_EQ(Change(before, end).Pages(kExposure), -20);
}

TEST_F(MergingTest, ExplainedAsMerged) {
  constexpr size_t kPages = 300;
  const int child = ForkBesideEqualPages(kPages);
  const MergingHost ksm;
  for (const int id : {0, child}) Advise(id, "m", kMergeable, kPages);
  ASSERT_TRUE(AwaitMerged(ksm, child, 2 * kPages));
  explain::Explainer explainer{procfs::Root()};
  const explain::Portrait portrait = Explained(explainer, workload().Pid(child));
  EXPECT_EQ(RunsAt(portrait, workload().Address(child, "m"), kPages), "merged 300");
  EXPECT_EQ(RunsAt(portrait, workload().Address(child, "a"), 100),
            "shared(" + std::to_string(workload().Pid()) + ") 100");
  for (const int id : {0, child}) Advise(id, "m", kUnmergeable, kPages);
}

// KSM merges pages shared by fork: no break, no exposure. After unmerging, the pages are private.
TEST_F(MergingTest, ForkSharedPagesThatMerge) {
  constexpr size_t kPages = 300;
  workload().Map(0, "m", kPages);
  Write(0, "m", 0, kPages);  // all equal
  const int child = ForkWarm();
  const Sample before = Pass();
  Sample merged;
  {
    const MergingHost ksm;
    for (const int id : {0, child}) Advise(id, "m", kMergeable, kPages);
    ASSERT_TRUE(AwaitMerged(ksm, child, 2 * kPages));
    merged = Pass();
    EXPECT_EQ(Change(before, merged).BreaksOfAllSides(), 0);
    EXPECT_EQ(Change(before, merged).Pages(kUnattributed), 0);
    EXPECT_EQ(merged.At(kUnmatched), before.At(kUnmatched));
    EXPECT_EQ(merged.At(kUnresolved), 0);
    EXPECT_EQ(Change(before, merged).Pages(kExposure), -static_cast<double>(kPages));
    EXPECT_EQ(Change(before, merged).UnsharedPages(), 0) << "KSM shares it now";
    for (const int id : {0, child}) Advise(id, "m", kUnmergeable, kPages);
    const Sample parted = Pass();
    ExpectNoVerdict(Change(merged, parted));
  }
  const Sample after = Pass();
  EXPECT_EQ(Change(merged, after).BreaksOfAllSides(), 0);
  EXPECT_EQ(after.At(kUnmatched), before.At(kUnmatched));
}

}  // namespace
}  // namespace cow::live
