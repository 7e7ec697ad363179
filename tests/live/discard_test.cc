// Pages that are given back, replaced or protected on purpose: what page tables can tell from a copy and what not.
#include <string>

#include "tests/live/live.h"

namespace cow::live {
namespace {

using DiscardTest = LiveTest;

// Linux' madvise numbers; the headers of Debian 12 lack some of them.
constexpr int kFree = 8;
constexpr int kDontFork = 10;
constexpr int kDoFork = 11;
constexpr int kWipeOnFork = 18;
constexpr int kGuardInstall = 102;
constexpr int kGuardRemove = 103;

std::string Advise(int id, const std::string& name, int advice, size_t first, size_t pages) {
  return "madvise " + std::to_string(id) + " " + name + " " + std::to_string(advice) + " " + std::to_string(first) +
         " " + std::to_string(pages);
}

TEST_F(DiscardTest, MappedAgainAndEmptyIsUnmap) {
  const std::string child = std::to_string(ForkOver("a", 1000));
  const Sample before = Pass();
  Do("remapfixed " + child + " a 100 50");
  const Sample after = Pass();
  const Change change(before, after);
  EXPECT_EQ(change.BreaksOfAllSides(), 0);
  EXPECT_EQ(change.Pages(Unshared("unmap")), 50);
  EXPECT_EQ(change.UnsharedPages(), 50);
  EXPECT_EQ(change.Pages(kExposure), -50);
  EXPECT_EQ(change.Pages(kFootprint), 0);
  EXPECT_EQ(after.At(kUnresolved), 0);
  // The page was seen absent, so a later write makes a fresh page.
  Write(std::stoi(child), "a", 100, 50);
  const Sample written = Pass();
  ExpectNoVerdict(Change(after, written));
  EXPECT_EQ(Change(after, written).Pages(kFootprint), 50);
}

// If no pass has seen it absent, a fresh page looks like a copy and is counted as one. cow_kernel_copies_total does not
// move.
TEST_F(DiscardTest, DiscardedAndWrittenBetweenTwoLooksCountsAsBreak) {
  const int child = ForkOver("a", 1000);
  const std::string id = std::to_string(child);
  Sample before = Pass();
  Do("remapfixed " + id + " a 100 50");
  Write(child, "a", 100, 50);
  Sample after = Pass();
  EXPECT_EQ(Change(before, after).Of(kChildBreaks), 50);
  EXPECT_EQ(Change(before, after).UnsharedPages(), 0);
  EXPECT_EQ(Change(before, after).Pages(kExposure), -50);
  EXPECT_EQ(Change(before, after).Pages(kFootprint), 50);
  before = after;
  Do("dontneed " + id + " a 200 30");
  Write(child, "a", 200, 30);
  after = Pass();
  EXPECT_EQ(Change(before, after).Of(kChildBreaks), 30);
  EXPECT_EQ(Change(before, after).Pages(kExposure), -30);
  // A read maps the zero page: no copy.
  if (!WhyNoZeroPage().empty()) return;
  before = after;
  Do("dontneed " + id + " a 300 20");
  Do("read " + id + " a 300 20");
  after = Pass();
  EXPECT_EQ(Change(before, after).BreaksOfAllSides(), 0);
  EXPECT_EQ(Change(before, after).Pages(Unshared("unmap")), 20);
  EXPECT_EQ(Change(before, after).Pages("cow_zero_page_bytes{size=base}"), 20);
}

// The kernel lazily frees only pages that no other process maps.
TEST_F(DiscardTest, SharedPagesAreNotLazilyFreed) {
  const int child = ForkOver("a", 1000);
  Write(child, "a", 500, 100);
  const Sample before = Pass();
  Do(Advise(child, "a", kFree, 0, 600));
  const Sample advised = Pass();
  ExpectNoVerdict(Change(before, advised));
  EXPECT_EQ(Change(before, advised).Pages(kExposure), 0);
  EXPECT_EQ(Change(before, advised).Pages(kFootprint), 0);
  Write(child, "a", 400, 200);
  const Sample after = Pass();
  EXPECT_EQ(Change(advised, after).Of(kChildBreaks), 100);
  EXPECT_EQ(Change(advised, after).UnsharedPages(), 0);
  EXPECT_EQ(Change(advised, after).Pages(kExposure), -100);
}

TEST_F(DiscardTest, HeapThatShrinksAndGrows) {
  Do("brk 0 200 h");
  const int child = ForkWarm();
  const std::string id = std::to_string(child);
  const Sample before = Pass();
  Do("brkshrink " + id + " 80");
  const Sample shrunk = Pass();
  const Change shrinking(before, shrunk);
  EXPECT_EQ(shrinking.Pages("cow_break_bytes_total{mapping=heap}"), 0);
  EXPECT_LE(shrinking.BreaksOfAllSides(), 1) << "libc notes the heap's end in its data";
  EXPECT_EQ(shrinking.Pages(Unshared("unmap")), 80);
  EXPECT_EQ(shrinking.Pages(kExposure), -80 - shrinking.BreaksOfAllSides());
  Do("brk " + id + " 80");
  const Sample grown = Pass();
  ExpectNoVerdict(Change(shrunk, grown));
  EXPECT_EQ(Change(shrunk, grown).Pages(kExposure), 0);
  // Both happen between two looks, so they can't be told from copies.
  Do("brkshrink 0 80");
  Do("brkshrink 0 40");
  Do("brk 0 40");
  const Sample after = Pass();
  EXPECT_EQ(Change(grown, after).Of(kParentBreaks), 40);
  EXPECT_EQ(Change(grown, after).Pages("cow_break_bytes_total{mapping=heap}"), 40);
  EXPECT_EQ(Change(grown, after).UnsharedPages(), 0);
  EXPECT_EQ(Change(grown, after).Pages(kExposure), -40);
}

TEST_F(DiscardTest, GuardOverSharedPagesIsUnmap) {
  const int child = ForkOver("a", 1000);
  const Sample before = Pass();
  try {
    Do(Advise(child, "a", kGuardInstall, 100, 60));
  } catch (const std::exception& error) {
    GTEST_SKIP() << KernelLacks("guard regions (Linux 6.13): ") << error.what();
  }
  const Sample guarded = Pass();
  const Change change(before, guarded);
  EXPECT_EQ(change.BreaksOfAllSides(), 0);
  EXPECT_EQ(change.Pages(Unshared("unmap")), 60);
  EXPECT_EQ(change.UnsharedPages(), 60);
  EXPECT_EQ(change.Pages(kExposure), -60);
  EXPECT_EQ(guarded.At(kUnresolved), 0);
  EXPECT_EQ(guarded.At("cow_swapped_bytes"), 0);
  Do(Advise(child, "a", kGuardRemove, 100, 60));
  Write(child, "a", 100, 60);
  const Sample after = Pass();
  ExpectNoVerdict(Change(guarded, after));
  EXPECT_EQ(Change(guarded, after).Pages(kFootprint), 60);
}

// Guards are inherited; the parent's pages around them are shared.
TEST_F(DiscardTest, GuardsBeforeTheFork) {
  workload().Map(0, "a", 1000);
  Write(0, "a", 0, 1000);
  try {
    Do(Advise(0, "a", kGuardInstall, 0, 100));
  } catch (const std::exception& error) {
    GTEST_SKIP() << KernelLacks("guard regions (Linux 6.13): ") << error.what();
  }
  const int child = ForkWarm();
  const Sample before = Pass();
  EXPECT_EQ(before.At(kUnresolved), 0);
  EXPECT_EQ(before.At(kUnmatched), 0);
  Write(child, "a", 100, 10);
  EXPECT_EQ(Change(before, Pass()).Of(kChildBreaks), 10);
}

TEST_F(DiscardTest, WriteProtectionByUserfaultfdIsNoVerdict) {
  const int child = ForkOver("a", 1000);
  const std::string id = std::to_string(child);
  Do("dontneed " + id + " a 900 100");  // markers without a page
  const Sample before = Pass();
  try {
    Do("uffdwp " + id + " a 0 1000");
  } catch (const std::exception& error) {
    GTEST_SKIP() << KernelLacks("write protection of pages without one (Linux 6.7): ") << error.what();
  }
  const Sample covered = Pass();
  ExpectNoVerdict(Change(before, covered));
  EXPECT_EQ(Change(before, covered).Pages(kExposure), 0);
  EXPECT_EQ(covered.At(kUnresolved), 0);
  EXPECT_EQ(covered.At("cow_swapped_bytes"), 0);
  Write(child, "a", 0, 70);
  const Sample written = Pass();
  EXPECT_EQ(Change(covered, written).Of(kChildBreaks), 70);
  EXPECT_EQ(Change(covered, written).Pages(kExposure), -70);
  // A fork under protection shares pages like any other fork.
  const int grandchild = ForkWarm(child);
  const Sample forked = Pass();
  EXPECT_EQ(forked.At(kUnresolved), 0);
  Write(grandchild, "a", 0, 100);
  const Sample after = Pass();
  EXPECT_EQ(Change(forked, after).Of(kChildBreaks), 100);
  EXPECT_EQ(Change(forked, after).Pages(kExposure), -100);
  EXPECT_EQ(Change(forked, after).UnsharedPages(), 0);
  EXPECT_EQ(after.At(kUnmatched), 0);
}

TEST_F(DiscardTest, WipedOnForkIsFresh) {
  workload().Map(0, "a", 500);
  workload().Map(0, "w", 300);
  Write(0, "a", 0, 500);
  Write(0, "w", 0, 300);
  Do(Advise(0, "w", kWipeOnFork, 0, 300));
  const int child = ForkWarm();
  const Sample before = Pass();
  EXPECT_EQ(before.At(kUnmatched), 0);
  Write(child, "w", 0, 300);
  Write(0, "w", 0, 300);
  const Sample after = Pass();
  ExpectNoVerdict(Change(before, after));
  EXPECT_EQ(Change(before, after).Pages(kFootprint), 300);
  EXPECT_EQ(Change(before, after).Pages(kExposure), 0);
}

// The child wrote before its first look: page tables can't show that the fork shared nothing there.
TEST_F(DiscardTest, WipedAndWrittenBeforeTheFirstLookIsUnattributed) {
  workload().Map(0, "w", 300);
  Write(0, "w", 0, 300);
  Do(Advise(0, "w", kWipeOnFork, 0, 300));
  const Sample alone = Pass();
  const int idle = ForkWarm();  // breaks of a fork itself
  const Sample forked = Pass();
  Do("kill " + std::to_string(idle));
  Idle(0);
  const Sample before = Pass();
  const int child = ForkWarm();
  Write(child, "w", 0, 120);
  const Sample after = Pass();
  const Change fork(alone, forked);
  const Change change(before, after);
  EXPECT_EQ(change.Pages(kUnattributed) - fork.Pages(kUnattributed), 120);
  EXPECT_EQ(change.Pages(kAnonBreaks), fork.Pages(kAnonBreaks));
  EXPECT_EQ(change.UnsharedPages(), 0);
  EXPECT_EQ(after.At(kUnmatched), 0);
}

TEST_F(DiscardTest, NotForkedIsNotShared) {
  workload().Map(0, "a", 500);
  workload().Map(0, "d", 300);
  Write(0, "a", 0, 500);
  Write(0, "d", 0, 300);
  Do(Advise(0, "d", kDontFork, 0, 300));
  ForkWarm();
  const Sample before = Pass();
  EXPECT_EQ(before.At(kUnmatched), 0);
  Write(0, "d", 0, 300);
  const Sample written = Pass();
  ExpectNoVerdict(Change(before, written));
  // Forked now, so it is shared with this child only.
  Do(Advise(0, "d", kDoFork, 0, 300));
  const int second = ForkWarm();
  const Sample forked = Pass();
  EXPECT_GE(Change(written, forked).Pages(kExposure), 800);
  Write(second, "d", 0, 40);
  const Sample after = Pass();
  EXPECT_EQ(Change(forked, after).Of(kChildBreaks), 40);
  EXPECT_EQ(Change(forked, after).Pages(kExposure), -40);
  EXPECT_EQ(Change(forked, after).UnsharedPages(), 0);
  EXPECT_EQ(after.At(kUnmatched), 0);
}

}  // namespace
}  // namespace cow::live
