// Checks which side copied how many pages, and in what kind of mapping.
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

#include "tests/live/live.h"
#include "tests/support/privileges.h"

namespace cow::live {
namespace {

using BreaksTest = LiveTest;

TEST_F(BreaksTest, ParentsWritesAreTheParents) {
  ForkOver("a", 1000);
  const Sample before = Pass();
  Do("write 0 a 10 123");
  const Sample after = Pass();
  const Change change(before, after);
  EXPECT_EQ(change.Of(kParentBreaks), 123);
  EXPECT_EQ(change.Of(kChildBreaks), 0);
  EXPECT_EQ(change.Of(kUnknownBreaks), 0);
  EXPECT_EQ(change.Pages(kAnonBreaks), 123);
  EXPECT_EQ(change.Pages(kExposure), -123);
}

TEST_F(BreaksTest, ChildsWritesAreTheChilds) {
  const int child = ForkOver("a", 1000);
  const Sample before = Pass();
  Do("write " + std::to_string(child) + " a 0 77 3");
  const Sample after = Pass();
  const Change change(before, after);
  EXPECT_EQ(change.Of(kChildBreaks), 77);
  EXPECT_EQ(change.Of(kParentBreaks), 0);
  EXPECT_EQ(change.Of(kUnknownBreaks), 0);
  EXPECT_EQ(change.Pages(kAnonBreaks), 77);
  EXPECT_EQ(change.Pages(kExposure), -77);
}

TEST_F(BreaksTest, SeveralMembersWriteTheSamePages) {
  const std::string first = std::to_string(ForkOver("a", 1000));
  const std::string second = std::to_string(ForkWarm(0));
  const std::string third = std::to_string(ForkWarm(0));
  Idle(0);
  const Sample before = Pass();
  Do("write " + first + " a 0 100");
  Do("write " + second + " a 50 100");
  Do("write 0 a 100 100");
  const Sample between = Pass();
  const Change change(before, between);
  EXPECT_EQ(change.Of(kChildBreaks), 200);
  EXPECT_EQ(change.Of(kParentBreaks), 100);
  EXPECT_EQ(change.Pages(kAnonBreaks), 300);

  // Pages 0 to 49 are still shared with the second child and the parent. The others are shared with fewer members: 50
  // to 99 with the parent, 100 to 149 with the first child, 150 to 199 with both children.
  Do("write " + third + " a 0 200");
  const Sample after = Pass();
  EXPECT_EQ(Change(between, after).Of(kChildBreaks), 200);
  EXPECT_EQ(Change(between, after).Of(kParentBreaks), 0);
  EXPECT_EQ(Change(before, after).Of(kUnknownBreaks), 0);
}

TEST_F(BreaksTest, GrandchildrensWritesAreTheChildrens) {
  const int child = ForkOver("a", 500);
  const std::string grandchild = std::to_string(ForkWarm(child));
  const Sample before = Pass();
  Do("write " + grandchild + " a 0 60");
  const Sample between = Pass();
  EXPECT_EQ(Change(before, between).Of(kChildBreaks), 60);
  Do("write " + std::to_string(child) + " a 0 60");
  const Sample after = Pass();
  EXPECT_EQ(Change(between, after).Of(kChildBreaks), 60) << "the root still has the original";
  EXPECT_EQ(Change(before, after).Of(kParentBreaks), 0);
  EXPECT_EQ(Change(before, after).Pages(kAnonBreaks), 120);
}

TEST_F(BreaksTest, LastHoldersWriteIsNone) {
  const std::string child = std::to_string(ForkOver("a", 500));
  Do("write " + child + " a 0 100");
  const Sample before = Pass();
  Do("write 0 a 0 100");
  const Sample after = Pass();
  EXPECT_EQ(Change(before, after).BreaksOfAllSides(), 0);
  EXPECT_EQ(Change(before, after).Pages(kExposure), 0);
}

TEST_F(BreaksTest, FreshMemoryIsNone) {
  const int child = ForkOver("a", 100);
  const Sample before = Pass();
  for (const int id : {0, child}) {
    workload().Map(id, "fresh", 300);
    Do("write " + std::to_string(id) + " fresh 0 300");
  }
  const Sample after = Pass();
  const Change change(before, after);
  EXPECT_EQ(change.BreaksOfAllSides(), 0);
  EXPECT_EQ(change.Pages(kUnattributed), 0);
  EXPECT_EQ(change.Pages(kExposure), 0);
  EXPECT_EQ(change.Pages("cow_footprint_bytes"), 600);
}

TEST_F(BreaksTest, HeapIsHeap) {
  Do("brk 0 200 h");
  const int child = ForkWarm(0);
  const Sample before = Pass();
  Do("write " + std::to_string(child) + " h 0 40");
  Do("write 0 h 100 30");
  const Sample after = Pass();
  const Change change(before, after);
  EXPECT_EQ(change.Pages("cow_break_bytes_total{mapping=heap}"), 70);
  EXPECT_EQ(change.Pages(kAnonBreaks), 0);
  EXPECT_EQ(change.Of(kChildBreaks), 40);
  EXPECT_EQ(change.Of(kParentBreaks), 30);
}

TEST_F(BreaksTest, StackIsStack) {
  Do("stack 0 100");
  const int child = ForkWarm(0);
  const Sample before = Pass();
  Do("stack " + std::to_string(child) + " " + std::to_string(kIdleStackPages + 40));
  const Sample after = Pass();
  EXPECT_NEAR(Change(before, after).Pages("cow_break_bytes_total{mapping=stack}"), 40, 1);
  EXPECT_EQ(Change(before, after).Pages(kAnonBreaks), 0);
}

TEST_F(BreaksTest, CopiesOfPrivateFilePagesAreFile) {
  const std::string directory = ::testing::TempDir();
  for (const std::string& path : {directory + "/cow_live_file", std::string("/dev/shm/cow_live_file")}) {
    std::ofstream(path) << std::string(100 * PageBytes(), 'x');
  }
  Do("mapfile 0 f " + directory + "/cow_live_file 100 private");
  Do("mapfile 0 s /dev/shm/cow_live_file 100 private");
  Do("write 0 f 0 50");
  Do("write 0 s 0 50");
  const std::string child = std::to_string(ForkWarm(0));
  const Sample before = Pass();
  Do("write " + child + " f 0 20");
  Do("write " + child + " f 60 10");  // the first write copies a page of the page cache, which no fork shared
  Do("write " + child + " s 0 15");
  const Sample after = Pass();
  EXPECT_EQ(Change(before, after).Pages("cow_break_bytes_total{mapping=file}"), 20);
  EXPECT_EQ(Change(before, after).Pages("cow_break_bytes_total{mapping=shmem}"), 15);
  EXPECT_EQ(Change(before, after).Of(kChildBreaks), 35);
  std::filesystem::remove(directory + "/cow_live_file");
  std::filesystem::remove("/dev/shm/cow_live_file");
}

// A child has its first look after it and its parent wrote: the kernel's marks show the sides. The breaks of a fork
// itself are measured on an idle child.
TEST_F(BreaksTest, FirstLookNamesTheSides) {
  if (const std::string why = test::WhyNoHostProcesses(); !why.empty()) GTEST_SKIP() << why;
  workload().Map(0, "a", 1000);
  Do("write 0 a 0 1000");
  const int idle = ForkWarm(0);
  const Sample start = Pass();
  Do("kill " + std::to_string(idle));
  Idle(0);
  const Sample alone = Pass();
  const int idle_again = ForkWarm(0);
  const Sample forked = Pass();
  Do("kill " + std::to_string(idle_again));
  Idle(0);
  const Sample before = Pass();
  const std::string child = std::to_string(ForkWarm(0));
  Do("write " + child + " a 0 50");
  Do("write 0 a 100 40");
  const Sample after = Pass();
  const Change fork(alone, forked);
  const Change change(before, after);
  // The parent writes to a page of the workload's own data when it forks. The child may write to it too when it gets a
  // command, so both sides have it. No page of "a" is such a page: all 90 are broken.
  const double by_both = change.Pages(kUnattributed) - fork.Pages(kUnattributed);
  EXPECT_GE(by_both, 0);
  EXPECT_LE(by_both, fork.Of(kParentBreaks)) << "written by both before the first look";
  EXPECT_EQ(change.Of(kChildBreaks) - fork.Of(kChildBreaks), 50);
  EXPECT_EQ(change.Of(kParentBreaks) - fork.Of(kParentBreaks) + by_both, 40);
  EXPECT_EQ(change.Of(kUnknownBreaks), 0);
  EXPECT_EQ(change.Pages(kAnonBreaks) - fork.Pages(kAnonBreaks), 90);
  std::printf("a fork by itself: %.0f pages of the child, %.0f of the parent, %.0f of them anon, %.0f unattributed\n",
              fork.Of(kChildBreaks), fork.Of(kParentBreaks), fork.Pages(kAnonBreaks), fork.Pages(kUnattributed));
}

// A part of a huge page has no mark of its own; the mark of the first page decides.
TEST_F(BreaksTest, FirstLookNamesTheSidesInAHugePage) {
  if (const std::string why = test::WhyNoHostProcesses(); !why.empty()) GTEST_SKIP() << why;
  if (const std::string reason = WhyNoHugePages(); !reason.empty()) GTEST_SKIP() << reason;
  const uint64_t window = HugePageBytes() / PageBytes();
  workload().Map(0, "t", window, "huge");
  Do("write 0 t 0 " + std::to_string(window));
  const Sample start = Pass();
  const int idle = ForkWarm(0);
  const Sample forked = Pass();
  Do("kill " + std::to_string(idle));
  Idle(0);
  const Sample before = Pass();
  const std::string child = std::to_string(ForkWarm(0));
  Do("write " + child + " t 0 50");
  Do("write 0 t 100 40");
  const Sample after = Pass();
  const Change fork(start, forked);
  const Change change(before, after);
  EXPECT_EQ(change.Of(kChildBreaks) - fork.Of(kChildBreaks), 50);
  EXPECT_EQ(change.Of(kParentBreaks) - fork.Of(kParentBreaks), 40);
  EXPECT_EQ(change.Pages(kUnattributed), fork.Pages(kUnattributed));
}

TEST_F(BreaksTest, FirstLookAtHugePagesAfterTheForkFindsNoBreak) {
  if (const std::string reason = WhyNoHugePages(); !reason.empty()) GTEST_SKIP() << reason;
  const uint64_t window = HugePageBytes() / PageBytes();
  const auto pages = static_cast<double>(window);
  workload().Map(0, "t", window, "huge");
  workload().Map(0, "u", window, "huge");
  const Sample start = Pass();
  const int idle = ForkWarm(0);
  const Sample forked = Pass();
  Do("kill " + std::to_string(idle));
  Idle(0);
  const Sample before = Pass();
  const std::string child = std::to_string(ForkWarm(0));
  // In each mapping one of them writes to a huge page of its own, the other to base pages.
  Do("madvise " + child + " t 15 0 " + std::to_string(window));  // MADV_NOHUGEPAGE
  Do("madvise 0 u 15 0 " + std::to_string(window));
  for (const std::string& id : {std::string("0"), child}) {
    Do("write " + id + " t 0 " + std::to_string(window));
    Do("write " + id + " u 0 " + std::to_string(window));
  }
  const Sample after = Pass();
  const Change fork(start, forked);
  const Change change(before, after);
  EXPECT_EQ(change.BreaksOfAllSides(), fork.BreaksOfAllSides());
  EXPECT_EQ(change.Pages(kUnattributed) - fork.Pages(kUnattributed), 2 * pages);
}

TEST_F(BreaksTest, ForkBreakBytesOfOneLife) {
  const std::string child = std::to_string(ForkOver("a", 1000));
  const Sample start = Pass();
  Do("write " + child + " a 0 100");
  Do("write 0 a 500 50");
  const Sample before = Pass();
  EXPECT_EQ(before.At("cow_fork_break_bytes_count"), 0);
  Do("kill " + child);
  const Sample after = Pass();
  EXPECT_EQ(after.At("cow_fork_break_bytes_count"), 1);
  EXPECT_EQ(after.Pages("cow_fork_break_bytes_sum"), before.BreaksOfAllSides()) << "no one else was there";
  EXPECT_EQ(before.BreaksOfAllSides() - start.BreaksOfAllSides(), 150);
  EXPECT_EQ(after.At("cow_forks_total"), 1);
}

// The parent's breaks are known; the child's own copies ended with it.
TEST_F(BreaksTest, ForkBreakBytesOfAChildThatEndedBetweenTwoPasses) {
  const std::string child = std::to_string(ForkOver("a", 1000));
  const Sample before = Pass();
  Do("write " + child + " a 0 100");
  Do("write 0 a 500 50");
  Do("kill " + child);
  const Sample after = Pass();
  const Change change(before, after);
  EXPECT_EQ(change.Of(kParentBreaks), 50);
  EXPECT_EQ(change.BreaksOfAllSides(), 50);
  EXPECT_EQ(change.Pages(Unshared("exit")), before.Pages(kExposure) - 50);
  EXPECT_EQ(after.At("cow_fork_break_bytes_count"), 1);
  EXPECT_EQ(after.Pages("cow_fork_break_bytes_sum"), after.BreaksOfAllSides());
}

TEST_F(BreaksTest, ChildsWriteSplitsItsHugePage) {
  if (const std::string reason = WhyNoHugePages(); !reason.empty()) GTEST_SKIP() << reason;
  const uint64_t window = HugePageBytes() / PageBytes();
  const auto huge = static_cast<double>(HugePageBytes());
  workload().Map(0, "t", 4 * window, "huge");
  Do("write 0 t 0 " + std::to_string(4 * window));
  const std::string bytes = "cow_huge_page_bytes{backing=anon,mapped=pmd}";
  const std::string splits = "cow_huge_page_splits_total";
  const Sample alone = Pass();
  // Breaks are counted on every kernel; only PAGEMAP_SCAN shows huge pages.
  const bool scan = WhyNoPagemapScan(alone).empty();
  EXPECT_EQ(alone.Has(bytes), scan);
  EXPECT_EQ(alone.Has(splits), scan);
  const int child = ForkWarm(0);
  const Sample before = Pass();
  Do("write " + std::to_string(child) + " t " + std::to_string(window + 7) + " 1");
  const Sample after = Pass();
  const Change change(before, after);
  EXPECT_EQ(change.Of(kChildBreaks), 1);
  EXPECT_EQ(change.Of(kParentBreaks), 0);
  EXPECT_EQ(change.Pages(kAnonBreaks), 1);
  EXPECT_EQ(change.Pages(kExposure), -1);
  if (!scan) return;
  EXPECT_EQ(alone.At(bytes), 4 * huge);
  EXPECT_EQ(before.At(bytes), 8 * huge);
  EXPECT_EQ(change.Of(splits), 1);
  EXPECT_EQ(change.Of(bytes), -huge);
}

}  // namespace
}  // namespace cow::live
