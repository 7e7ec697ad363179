// Passes over memory that is written or moved at the same time.
#include <atomic>
#include <chrono>
#include <cstdio>
#include <string>
#include <thread>
#include <vector>

#include "tests/live/host.h"
#include "tests/live/live.h"

namespace cow::live {
namespace {

class ConcurrentTest : public LiveTest {
 protected:
  // Starting a thread dirties libc's data; do it before the sample.
  void WarmThreads(const std::vector<int>& ids) {
    for (const int id : ids) Do("threads " + std::to_string(id) + " 1");
  }
  struct Writer {
    int id;
    int threads;
  };
  // Lets all members write to each page of the mapping once while passes run. Returns the number of passes.
  int PassWhileTheyWrite(const std::vector<Writer>& writers, const std::string& name) {
    for (const Writer& writer : writers) {
      Do("writers " + std::to_string(writer.id) + " " + name + " " + std::to_string(writer.threads) + " 1");
    }
    int passes = 0;
    const auto writing = [&] {
      int left = 0;
      for (const Writer& writer : writers) left += std::stoi(workload().Do("writing " + std::to_string(writer.id)));
      return left != 0;
    };
    double breaks = Pass().BreaksOfAllSides();
    do {
      const double now = Pass().BreaksOfAllSides();
      EXPECT_GE(now, breaks);
      breaks = now;
      ++passes;
    } while (writing());
    return passes;
  }
};

// Each page breaks once for each member except the last holder, in any order and whenever a pass sees it.
TEST_F(ConcurrentTest, EachPageBreaksOnce) {
  constexpr size_t kPages = 6000;
  const int child = ForkOver("a", kPages);
  WarmThreads({0, child});
  const Sample before = Pass();
  const int passes = PassWhileTheyWrite({{0, 2}, {child, 3}}, "a");
  const Sample after = Pass();
  const Change change(before, after);
  std::printf("%d passes; parent %.0f, child %.0f, unknown %.0f\n", passes, change.Of(kParentBreaks),
              change.Of(kChildBreaks), change.Of(kUnknownBreaks));
  EXPECT_EQ(change.Pages(kAnonBreaks), kPages);
  EXPECT_EQ(change.UnsharedPages(), 0);
  EXPECT_EQ(change.Pages(kUnattributed), 0);
  EXPECT_EQ(after.At(kUnresolved), 0);
  EXPECT_EQ(after.At(kUnmatched), 0);
  const AnonymousMemory memory = CountAnonymousMemory({workload().Pid(), workload().Pid(child)});
  EXPECT_EQ(after.Pages(kExposure), static_cast<double>(memory.exposure_pages));
  EXPECT_EQ(after.Pages(kFootprint), static_cast<double>(memory.footprint_pages));
}

TEST_F(ConcurrentTest, EachPageBreaksTwiceAmongThree) {
  constexpr size_t kPages = 4000;
  const int first = ForkOver("a", kPages);
  const int second = ForkWarm();
  Idle(first);
  WarmThreads({0, first, second});
  const Sample before = Pass();
  const int passes = PassWhileTheyWrite({{0, 1}, {first, 2}, {second, 1}}, "a");
  const Sample after = Pass();
  const Change change(before, after);
  std::printf("%d passes; parent %.0f, child %.0f, unknown %.0f\n", passes, change.Of(kParentBreaks),
              change.Of(kChildBreaks), change.Of(kUnknownBreaks));
  EXPECT_EQ(change.Pages(kAnonBreaks), 2 * kPages);
  EXPECT_EQ(change.UnsharedPages(), 0);
  EXPECT_EQ(change.Pages(kUnattributed), 0);
  EXPECT_EQ(after.At(kUnresolved), 0);
}

// Only one side writes, so all breaks belong to it.
TEST_F(ConcurrentTest, OneSideWrites) {
  constexpr size_t kPages = 6000;
  const int child = ForkOver("a", kPages);
  WarmThreads({0, child});
  const Sample before = Pass();
  PassWhileTheyWrite({{child, 4}}, "a");
  const Sample after = Pass();
  const Change change(before, after);
  EXPECT_EQ(change.Pages(kAnonBreaks), kPages);
  EXPECT_EQ(change.Of(kChildBreaks), change.BreaksOfAllSides());
  EXPECT_EQ(change.UnsharedPages(), 0);
}

// Huge pages split during the reads.
TEST_F(ConcurrentTest, HugePagesWrittenByBothSides) {
  if (const std::string reason = WhyNoHugePages(); !reason.empty()) GTEST_SKIP() << reason;
  const size_t pages = 8 * HugePageBytes() / PageBytes();
  const int child = ForkOver("t", pages, "huge");
  WarmThreads({0, child});
  const Sample before = Pass();
  PassWhileTheyWrite({{0, 2}, {child, 2}}, "t");
  const Sample after = Pass();
  const Change change(before, after);
  // khugepaged runs every ten seconds and may collapse split pages again. What it copies is no break.
  const double collapsed = change.Pages(Unshared("collapse"));
  EXPECT_EQ(change.Pages(kAnonBreaks) + collapsed, static_cast<double>(pages));
  EXPECT_EQ(change.UnsharedPages(), collapsed);
  EXPECT_EQ(change.Pages(kUnattributed), 0);
  const AnonymousMemory memory = CountAnonymousMemory({workload().Pid(), workload().Pid(child)});
  EXPECT_EQ(after.Pages(kExposure), static_cast<double>(memory.exposure_pages));
  EXPECT_EQ(after.Pages(kFootprint), static_cast<double>(memory.footprint_pages));
}

// All members move their pages during the reads.
TEST_F(ConcurrentTest, CompactionDuringPasses) {
  constexpr size_t kPages = 40000;
  constexpr size_t kHoles = 100000;
  workload().Map(0, "holes", kHoles);
  Do("madvise 0 holes 10 0 " + std::to_string(kHoles));  // MADV_DONTFORK
  Write(0, "holes", 0, kHoles);
  const int child = ForkOver("a", kPages);
  for (size_t page = 0; page + 50 <= kHoles; page += 50) Do("dontneed 0 holes " + std::to_string(page) + " 43");
  const Sample before = Pass();
  const uint64_t address = workload().Address(child, "a");
  const auto frames = ReadPagemap(workload().Pid(child), address, kPages);
  const uint64_t migrated = HostCounter("/proc/vmstat", "pgmigrate_success");
  std::atomic<bool> end = false;
  std::thread compaction([&end] {
    while (!end) WriteHostFile("/proc/sys/vm/compact_memory", "1");
  });
  Sample last = before;
  for (int pass = 0; pass < 25; ++pass) {
    const Sample now = Pass();
    ExpectNoVerdict(Change(last, now));
    last = now;
  }
  end = true;
  compaction.join();
  const Sample after = Pass();
  const auto frames_now = ReadPagemap(workload().Pid(child), address, kPages);
  size_t moved = 0;
  for (size_t page = 0; page < kPages; ++page) moved += frames[page] != frames_now[page] ? 1U : 0U;
  std::printf("compaction moved %lu pages of the host, %zu of %zu of the test's\n",
              static_cast<unsigned long>(HostCounter("/proc/vmstat", "pgmigrate_success") - migrated), moved, kPages);
  ExpectNoVerdict(Change(before, after));
  EXPECT_EQ(Change(before, after).Pages(kExposure), 0);
  EXPECT_EQ(after.At(kUnresolved), 0);
  EXPECT_EQ(after.At(kUnmatched), 0);
}

}  // namespace
}  // namespace cow::live
