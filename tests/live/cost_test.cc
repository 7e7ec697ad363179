// Measures how much is read: unrelated memory and holes are not.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <functional>
#include <limits>
#include <map>
#include <string>

#include "tests/live/live.h"
#include "tests/support/privileges.h"

namespace cow::live {
namespace {

constexpr size_t kTebibytePages = size_t{1} << 28;

class CostTest : public LiveTest {
 protected:
  explicit CostTest(std::chrono::minutes full_every = std::chrono::minutes(0)) : LiveTest(full_every) {}

  struct Reads {
    double pages = std::numeric_limits<double>::infinity();  // pagemap entries
    double calls = std::numeric_limits<double>::infinity();  // PAGEMAP_SCAN calls

    void TakeLeast(double other_pages, double other_calls) {
      pages = std::min(pages, other_pages);
      calls = std::min(calls, other_calls);
    }
  };

  // PAGEMAP_SCAN limits ranges by bytes; these tests map pages.
  static double Scale() { return static_cast<double>(PageBytes()) / 4096; }

  // Returns what a pass reads of the whole host. Takes the minimum of several passes, because other processes come and
  // go.
  Reads ReadsOfAPass() {
    Reads least;
    Sample before = Pass();
    for (int i = 0; i < 4; ++i) {
      const Sample after = Pass();
      const Change change(before, after);
      least.TakeLeast(change.Of("cow_scan_pages_total"), change.Of("cow_scan_calls_total{file=pagemap_scan}"));
      before = after;
    }
    return least;
  }

  // Returns how much more a pass reads after `make`. Other processes may add thousands of pages, but not in each
  // attempt.
  Reads AddedBy(const Reads& enough, const std::function<void()>& make, const std::function<void()>& undo) {
    Reads least;
    for (int round = 0; round < 5 && (least.pages > enough.pages || least.calls > enough.calls); ++round) {
      if (round != 0) undo();
      const Reads without = ReadsOfAPass();
      make();
      const Reads with = ReadsOfAPass();
      least.TakeLeast(with.pages - without.pages, with.calls - without.calls);
    }
    std::printf("a pass read %.0f pages more, and called PAGEMAP_SCAN %.0f times more\n", least.pages, least.calls);
    EXPECT_LE(least.pages, enough.pages);
    EXPECT_LE(least.calls, enough.calls);
    return least;
  }
};

TEST_F(CostTest, MemoryOfALonelyProcessIsNotWalked) {
  if (const std::string why = test::WhyNoHostProcesses(); !why.empty()) GTEST_SKIP() << why;
  if (const std::string reason = WhyNoPagemapScan(Pass()); !reason.empty()) GTEST_SKIP() << reason;
  workload().Map(0, "a", 65536);  // 256 MiB
  AddedBy(
      {512, 16 * Scale()}, [this] { Do("write 0 a 0 65536"); }, [this] { Do("dontneed 0 a 0 65536"); });
  const AnonymousMemory memory = CountAnonymousMemory({workload().Pid()});
  EXPECT_EQ(Pass().Pages("cow_footprint_bytes"), static_cast<double>(memory.footprint_pages));
}

TEST_F(CostTest, HolesOfALonelyProcessCostNothing) {
  if (const std::string reason = WhyNoPagemapScan(Pass()); !reason.empty()) GTEST_SKIP() << reason;
  int round = 0;
  const auto make = [&] {
    const std::string number = std::to_string(++round);
    workload().Map(0, "none" + number, kTebibytePages, "none");
    workload().Map(0, "big" + number, kTebibytePages, "noreserve");
    Do("write 0 big" + number + " 12345 10 1000000");
  };
  const auto undo = [&] {
    for (const char* name : {"none", "big"}) {
      Do("unmap 0 " + std::string(name) + std::to_string(round) + " 0 " + std::to_string(kTebibytePages));
    }
  };
  AddedBy({.pages = 512, .calls = 200 * Scale()}, make, undo);
}

TEST_F(CostTest, HolesOfAFamilyCostLittle) {
  if (const std::string reason = WhyNoPagemapScan(Pass()); !reason.empty()) GTEST_SKIP() << reason;
  workload().Map(0, "a", 1000);
  workload().Map(0, "none", kTebibytePages, "none");
  workload().Map(0, "big", kTebibytePages, "noreserve");
  Do("write 0 a 0 1000");
  Do("write 0 big 12345 10 1000000");
  int child = 0;
  const auto make = [&] {
    child = Fork();
    Idle(0);
    Idle(child);
  };
  AddedBy({.pages = 16384, .calls = 600 * Scale()}, make, [&] { Do("kill " + std::to_string(child)); });
  // The few present pages are found.
  const Sample before = Pass();
  Do("write " + std::to_string(child) + " big 12345 10 1000000");
  const Sample after = Pass();
  EXPECT_EQ(Change(before, after).Of(kChildBreaks), 10);
  EXPECT_EQ(Change(before, after).Pages(kExposure), -10);
}

class UnchangedCostTest : public CostTest {
 protected:
  UnchangedCostTest() : CostTest(std::chrono::minutes(60)) {}
};

TEST_F(UnchangedCostTest, OnlyWhatChangedIsRead) {
  constexpr size_t kPages = 65536;
  constexpr size_t kMembers = 4;
  workload().Map(0, "a", kPages);
  Do("write 0 a 0 " + std::to_string(kPages));
  const std::string child = std::to_string(Fork());
  for (size_t member = 2; member < kMembers; ++member) Idle(Fork());
  Idle(0);
  Idle(std::stoi(child));
  const Sample before = Pass();
  const Reads unchanged = ReadsOfAPass();
  std::printf("a pass read %.0f pages of the whole host\n", unchanged.pages);
  EXPECT_LT(unchanged.pages, kMembers * kPages / 2) << "the family alone has twice as many";
  const Sample skipped = Pass();
  EXPECT_EQ(skipped.At(kExposure), before.At(kExposure));
  EXPECT_EQ(skipped.At("cow_scan_coverage_ratio"), 1);
  EXPECT_GT(skipped.At("cow_scan_timestamp_seconds"), before.At("cow_scan_timestamp_seconds"));
  EXPECT_EQ(skipped.At("cow_processes"), kMembers);

  // The smallest changes are found.
  Do("write " + child + " a 5 1");
  const Sample written = Pass();
  EXPECT_EQ(Change(skipped, written).Of(kChildBreaks), 1);
  Do("dontneed " + child + " a 9 1");
  const Sample dropped = Pass();
  EXPECT_EQ(Change(written, dropped).Pages(kExposure), -1);
  Do("write 0 a 100 1");
  const Sample by_parent = Pass();
  EXPECT_EQ(Change(dropped, by_parent).Of(kParentBreaks), 1);
  Do("kill " + child);
  EXPECT_EQ(Pass().At("cow_processes"), kMembers - 1);
}

// The cost of one member's writes grows with that member's memory, plus single pages of the others.
TEST_F(UnchangedCostTest, OnlyTheMemberThatChangedIsRead) {
  constexpr size_t kPages = 32768;
  constexpr size_t kMembers = 8;
  workload().Map(0, "a", kPages);
  Do("write 0 a 0 " + std::to_string(kPages));
  int child = 0;
  for (size_t member = 1; member < kMembers; ++member) child = Fork();
  for (size_t member = 0; member < kMembers; ++member) Idle(static_cast<int>(member));
  Pass();
  Sample before = Pass();
  // One page in each window: every window has a verdict, and one page of one other holder is read for it.
  constexpr size_t kRounds = 4;
  Reads least;
  for (size_t round = 0; round < kRounds; ++round) {
    for (size_t page = round; page < kPages; page += 512) {
      Do("write " + std::to_string(child) + " a " + std::to_string(page) + " 1");
    }
    const Sample after = Pass();
    const Change change(before, after);
    EXPECT_EQ(change.Of(kChildBreaks), kPages / 512);
    EXPECT_EQ(change.BreaksOfAllSides(), kPages / 512);
    EXPECT_EQ(change.Pages(kExposure), -change.BreaksOfAllSides());
    EXPECT_EQ(change.UnsharedPages(), 0);
    EXPECT_EQ(after.At("cow_scan_coverage_ratio"), 1);
    least.TakeLeast(change.Of("cow_scan_pages_total"), change.Of("cow_scan_calls_total{file=pagemap}"));
    before = after;
  }
  std::printf("a pass read %.0f pages in %.0f calls\n", least.pages, least.calls);
  EXPECT_LT(least.pages, 2 * kPages) << "all members have " << kMembers * kPages;
  EXPECT_GE(before.At("cow_scan_skipped_processes"), kMembers - 1);
}

// Breaks of the root are compared with all memory of its children.
TEST_F(UnchangedCostTest, TimeGrowsWithTheMembersAndNotWithTheirSquare) {
  constexpr size_t kPages = 4096;
  constexpr size_t kRounds = 6;
  constexpr size_t kStride = 10;
  std::map<size_t, double> milliseconds;
  for (const size_t members : {size_t{125}, size_t{1000}}) {
    const std::string name = group() + "m";
    auto crowd = StartWorkload(name);
    crowd->Map(0, "a", kPages);
    crowd->Do("write 0 a 0 " + std::to_string(kPages));
    crowd->Do("crowd 0 " + std::to_string(members - 1));
    // This command's own writes are private to the root afterwards, on a page that no round writes to.
    crowd->Do("write 0 a " + std::to_string(kRounds) + " 1 " + std::to_string(kStride));
    Pass(name);
    Sample before = Pass(name);
    ASSERT_EQ(before.At("cow_processes"), members);
    double least = std::numeric_limits<double>::infinity();
    for (size_t round = 0; round < kRounds; ++round) {
      const size_t count = (kPages - round + kStride - 1) / kStride;
      crowd->Do("write 0 a " + std::to_string(round) + " " + std::to_string(count) + " " + std::to_string(kStride));
      const std::clock_t begin = std::clock();
      const Sample after = Pass(name);
      least = std::min(least, 1000.0 * static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC);
      EXPECT_EQ(Change(before, after).Of(kParentBreaks), count);
      EXPECT_EQ(Change(before, after).Pages(kExposure), -static_cast<double>(count));
      before = after;
    }
    milliseconds[members] = least;
    std::printf("a pass over %zu members took %.1f ms of CPU\n", members, least);
  }
  EXPECT_LE(milliseconds[1000], 12 * milliseconds[125]);
}

// Compaction moves shared pages of all members to other frames without a change signal.
TEST_F(UnchangedCostTest, FramesThatMovedAreNoBreaksOfTheMemberThatIsRead) {
  constexpr size_t kPages = 40000;
  constexpr size_t kAttempts = 6;
  constexpr size_t kFillerPages = 400000;
  size_t moved = 0;
  const auto free_pages = static_cast<size_t>(sysconf(_SC_AVPHYS_PAGES));
  for (size_t attempt = 0; attempt < kAttempts && moved == 0; ++attempt) {
    if (attempt * kFillerPages > free_pages / 2) break;
    const std::string number = std::to_string(attempt);
    const std::string filler_pages = std::to_string(attempt * kFillerPages);
    if (attempt > 0) {
      workload().Map(0, "filler" + number, attempt * kFillerPages);
      Do("madvise 0 filler" + number + " 10 0 " + filler_pages);  // MADV_DONTFORK
      Do("write 0 filler" + number + " 0 " + filler_pages);
    }
    workload().Map(0, "holes" + number, 100000);
    Do("madvise 0 holes" + number + " 10 0 100000");
    Do("write 0 holes" + number + " 0 100000");
    const std::string name = "a" + number;
    const int child = ForkOver(name, kPages);
    const int other = Fork();
    for (size_t page = 0; page < 2000; ++page)
      Do("dontneed 0 holes" + number + " " + std::to_string(page * 50) + " 43");
    if (attempt > 0) Do("unmap 0 filler" + number + " 0 " + filler_pages);
    for (const int member : {0, child, other}) Idle(member);
    Pass();
    const Sample before = Pass();
    const pid_t pid = workload().Pid(other);
    const uint64_t address = workload().Address(0, name);
    const auto old = ReadPagemap(pid, address, kPages);
    for (int i = 0; i < 3; ++i) std::ofstream("/proc/sys/vm/compact_memory") << "1" << std::flush;
    Do("write " + std::to_string(child) + " " + name + " 700 300");
    const Sample after = Pass();
    const auto now = ReadPagemap(pid, address, kPages);
    for (size_t page = 0; page < kPages; ++page) moved += now[page] != old[page] ? 1U : 0U;
    const Change change(before, after);
    EXPECT_EQ(change.Of(kChildBreaks), 300);
    EXPECT_EQ(change.BreaksOfAllSides(), 300);
    EXPECT_EQ(change.Pages(kExposure), -300);
    EXPECT_EQ(change.UnsharedPages(), 0);
    EXPECT_EQ(change.Pages(kUnattributed), 0);
    // The next member that is read shows the rest.
    Do("write 0 " + name + " 5000 20");
    const Sample last = Pass();
    const Change next(after, last);
    EXPECT_EQ(next.Of(kParentBreaks), 20);
    EXPECT_EQ(next.BreaksOfAllSides(), 20);
    EXPECT_EQ(next.Pages(kExposure), -20);
    Do("kill " + std::to_string(child));
    Do("kill " + std::to_string(other));
    Pass();
  }
  std::printf("compaction moved %zu of %zu pages\n", moved, kPages);
  if (moved == 0) GTEST_SKIP() << "compaction moved no page";
}

// The first entry of a huge page stands for its whole window.
TEST_F(CostTest, HugePagesCostOneEntryEach) {
  if (const std::string reason = WhyNoPagemapScan(Pass()); !reason.empty()) GTEST_SKIP() << reason;
  if (const std::string reason = WhyNoHugePages(); !reason.empty()) GTEST_SKIP() << reason;
  constexpr size_t kHugePages = 64;
  const size_t window = HugePageBytes() / PageBytes();
  workload().Map(0, "t", kHugePages * window, "huge");
  const std::string pages = std::to_string(kHugePages * window);
  const int child = Fork();
  for (const int member : {0, child}) Idle(member);
  // Two members, two reads of each page's entry: before and after the kernel reported a huge page.
  AddedBy(
      {.pages = 8 * kHugePages, .calls = 4 * kHugePages},
      [&] {
        Do("write 0 t 0 " + pages);
        ASSERT_EQ(Pass().At("cow_huge_page_bytes{backing=anon,mapped=pmd}"),
                  static_cast<double>(kHugePages * HugePageBytes()));
      },
      [&] { Do("dontneed 0 t 0 " + pages); });
}

}  // namespace
}  // namespace cow::live
