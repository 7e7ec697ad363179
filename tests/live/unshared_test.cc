// Pages that become private or change their frame without a copy.
#include <algorithm>
#include <fstream>
#include <string>

#include "tests/live/live.h"

namespace cow::live {
namespace {

using UnsharedTest = LiveTest;

TEST_F(UnsharedTest, ExitGivesBackAllThatWasShared) {
  const int child = ForkOver("a", 1000);
  const Sample before = Pass();
  Do("kill " + std::to_string(child));
  const Sample after = Pass();
  const Change change(before, after);
  EXPECT_EQ(change.BreaksOfAllSides(), 0);
  EXPECT_EQ(change.Pages(Unshared("exit")), before.Pages(kExposure));
  EXPECT_EQ(change.UnsharedPages(), before.Pages(kExposure));
  EXPECT_GE(before.Pages(kExposure), 1000);
  EXPECT_EQ(after.At(kExposure), 0);
  EXPECT_EQ(after.At("cow_shared_bytes"), 0);
}

TEST_F(UnsharedTest, ZombieHasNoMemory) {
  const std::string child = std::to_string(ForkOver("a", 1000));
  const Sample before = Pass();
  Do("kill " + child + " zombie");
  const Sample after = Pass();
  EXPECT_EQ(after.At("cow_processes"), 1);
  EXPECT_EQ(after.At(kExposure), 0);
  EXPECT_EQ(Change(before, after).Pages(Unshared("exit")), before.Pages(kExposure));
  Do("reap " + child);
  EXPECT_EQ(Change(after, Pass()).Pages(Unshared("exit")), 0);
}

TEST_F(UnsharedTest, ExitOfOneOfThreeLeavesTheOthersSharing) {
  ForkOver("a", 1000);
  const int second = Fork();
  Idle(0);
  Idle(second);
  const Sample before = Pass();
  Do("kill " + std::to_string(second));
  const Sample after = Pass();
  const Change change(before, after);
  EXPECT_EQ(change.BreaksOfAllSides(), 0);
  EXPECT_LE(change.Pages(kExposure), -1000);
  EXPECT_LE(change.UnsharedPages(), 20) << "only what the root dirtied between the two forks";
}

TEST_F(UnsharedTest, DontNeedIsUnmap) {
  const int child = ForkOver("a", 1000);
  const Sample before = Pass();
  Do("dontneed " + std::to_string(child) + " a 100 64");
  const Sample after = Pass();
  const Change change(before, after);
  EXPECT_EQ(change.BreaksOfAllSides(), 0);
  EXPECT_EQ(change.Pages(Unshared("unmap")), 64);
  EXPECT_EQ(change.UnsharedPages(), 64);
  EXPECT_EQ(change.Pages(kExposure), -64);
  // A later write makes fresh memory.
  Do("write " + std::to_string(child) + " a 100 64");
  EXPECT_EQ(Change(after, Pass()).BreaksOfAllSides(), 0);
}

TEST_F(UnsharedTest, UnmapIsUnmap) {
  const int child = ForkOver("a", 1000);
  const Sample before = Pass();
  Do("unmap " + std::to_string(child) + " a 0 600");
  const Sample after = Pass();
  EXPECT_EQ(Change(before, after).BreaksOfAllSides(), 0);
  EXPECT_EQ(Change(before, after).Pages(Unshared("unmap")), 600);
}

TEST_F(UnsharedTest, MoveByMremapKeepsSharing) {
  constexpr size_t kPages = (size_t{64} << 20) / 4096;
  const int child = ForkOver("a", kPages);
  const Sample before = Pass();
  ASSERT_GE(before.Pages(kExposure), static_cast<double>(kPages));
  for (const int id : {child, 0}) {
    const Sample unmoved = Pass();
    Do("remap " + std::to_string(id) + " a");
    const Sample moved = Pass();
    const Change change(unmoved, moved);
    EXPECT_EQ(change.Pages(kExposure), 0);
    EXPECT_EQ(change.Pages("cow_footprint_bytes"), 0);
    EXPECT_EQ(change.Pages("cow_unmatched_shared_bytes"), 0);
    EXPECT_EQ(change.UnsharedPages(), 0);
    EXPECT_EQ(change.BreaksOfAllSides(), 0);
  }
  const Sample moved = Pass();
  Do("write " + std::to_string(child) + " a 5 1");
  const Sample after = Pass();
  const Change change(moved, after);
  EXPECT_EQ(change.Of(kChildBreaks), 1);
  EXPECT_EQ(change.Of(kParentBreaks), 0);
  EXPECT_EQ(change.Pages(kExposure), -1);
  EXPECT_EQ(Change(before, after).Pages(Unshared("unmap")), 0);
  EXPECT_EQ(Change(before, after).Pages(Unshared("unknown")), 0);
}

TEST_F(UnsharedTest, MoveByReallocKeepsSharing) {
  constexpr size_t kPages = 4096;
  Do("malloc 0 m " + std::to_string(kPages));
  workload().Map(0, "below", 16);
  const int child = Fork();
  Idle(0);
  Idle(child);
  const Sample before = Pass();
  const uintptr_t old_place = workload().Address(child, "m");
  Do("realloc " + std::to_string(child) + " m " + std::to_string(4 * kPages));
  ASSERT_NE(workload().Address(child, "m"), old_place) << "the block did not move";
  const Sample after = Pass();
  const Change change(before, after);
  // malloc stores its sums in libc's data and the size in the first page of the block. That page is moved and written
  // between two looks, so it looks like a page that was given back.
  EXPECT_LE(change.BreaksOfAllSides(), 2);
  EXPECT_LE(change.UnsharedPages(), 1);
  EXPECT_GE(change.Pages(kExposure), -3);
  EXPECT_EQ(change.Pages(kExposure), -change.BreaksOfAllSides() - change.UnsharedPages());
  EXPECT_EQ(change.Pages(kUnattributed), 0);
}

TEST_F(UnsharedTest, CollapseIsCollapse) {
  if (const std::string reason = WhyNoHugePages(); !reason.empty()) GTEST_SKIP() << reason;
  const size_t pages = 2 * HugePageBytes() / PageBytes();
  const int child = ForkOver("a", pages, "aligned");
  // Older kernels do not collapse a range without a writable page.
  Do("write " + std::to_string(child) + " a 0 2 " + std::to_string(pages / 2));
  const Sample before = Pass();
  if (WhyNoPagemapScan(before).empty() && before.At("cow_huge_page_bytes{backing=anon,mapped=pmd}") != 0) {
    GTEST_SKIP() << "huge pages come unasked";
  }
  try {
    Do("collapse " + std::to_string(child) + " a");
  } catch (const std::exception& error) {
    GTEST_SKIP() << error.what();
  }
  const Sample after = Pass();
  const Change change(before, after);
  EXPECT_EQ(change.BreaksOfAllSides(), 0);
  EXPECT_EQ(change.Pages(Unshared("collapse")), static_cast<double>(pages - 2));
  EXPECT_EQ(change.UnsharedPages(), static_cast<double>(pages - 2));
}

// Compaction moves pages from one end of a zone to the other. Whether it moves pages of a mapping depends on their
// place. Each attempt keeps its memory, so the next one gets other places.
TEST_F(UnsharedTest, FramesMovedByCompactionAreNoBreaks) {
  constexpr size_t kAttempts = 6;
  constexpr size_t kFillerPages = 400000;
  constexpr size_t kPages = 50000;
  const pid_t root = workload().Pid();
  size_t moved = 0;
  const auto free_pages = static_cast<size_t>(sysconf(_SC_AVPHYS_PAGES));
  for (size_t attempt = 0; attempt < kAttempts && moved == 0; ++attempt) {
    if (attempt * kFillerPages > free_pages / 2) break;
    const std::string filler = std::string("filler").append(std::to_string(attempt));
    const std::string filler_pages = std::to_string(attempt * kFillerPages);
    if (attempt > 0) {
      workload().Map(0, filler, attempt * kFillerPages);
      Do("madvise 0 " + filler + " 10 0 " + filler_pages);  // MADV_DONTFORK
      Do("write 0 " + filler + " 0 " + filler_pages);
    }
    const std::string holes = std::string("holes").append(std::to_string(attempt));
    const std::string name = std::string("a").append(std::to_string(attempt));
    // Memory with holes, so that there is something to compact.
    workload().Map(0, holes, 100000);
    Do("madvise 0 " + holes + " 10 0 100000");  // MADV_DONTFORK
    Do("write 0 " + holes + " 0 100000");
    const int child = ForkOver(name, kPages);
    const pid_t child_pid = workload().Pid(child);
    for (size_t page = 0; page < 2000; ++page) Do("dontneed 0 " + holes + " " + std::to_string(page * 50) + " 43");
    const uint64_t address = workload().Address(0, name);
    if (attempt > 0) Do("unmap 0 " + filler + " 0 " + filler_pages);
    const Sample before = Pass();
    const auto parents_old = ReadPagemap(root, address, kPages);
    ASSERT_EQ(parents_old, ReadPagemap(child_pid, address, kPages));
    for (int i = 0; i < 3; ++i) {
      std::ofstream("/proc/sys/vm/compact_memory") << "1" << std::flush;
    }
    const auto parents = ReadPagemap(root, address, kPages);
    const Sample after = Pass();
    for (size_t page = 0; page < kPages; ++page) moved += parents[page] != parents_old[page] ? 1U : 0U;
    const Change change(before, after);
    EXPECT_EQ(change.BreaksOfAllSides(), 0);
    EXPECT_EQ(change.Pages(kExposure), 0);
    EXPECT_EQ(change.UnsharedPages(), 0);
    EXPECT_EQ(change.Pages(kUnattributed), 0);
  }
  std::printf("compaction moved %zu of %zu pages\n", moved, kPages);
  if (moved == 0) GTEST_SKIP() << "compaction moved no page";
}

}  // namespace
}  // namespace cow::live
