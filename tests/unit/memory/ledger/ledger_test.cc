// Breaks, exits and unmaps of pages that members share at one address, and the passes around them.
#include <gtest/gtest.h>

#include <map>
#include <set>
#include <vector>

#include "collectors/memory/ledger/ledger.h"
#include "collectors/procfs/pagemap.h"
#include "tests/unit/memory/ledger/ledger_fixture.h"

namespace cow::memory {
namespace {

TEST_F(LedgerTest, SameFrameIsShared) {
  Share(3);
  const PassResult pass = driver_->Pass();
  EXPECT_EQ(pass.verdicts, Words{});
  EXPECT_EQ(pass.shared, (std::map<Slot, uint64_t>{{0, 1}, {1, 1}, {2, 1}}));
  EXPECT_EQ(pass.exposure_pages, 2);
  EXPECT_EQ(driver_->ledger.Windows(), std::vector<WindowIndex>{WindowIndex(0)});
  // Its frame, its holders, and the bitmap of recorded pages.
  EXPECT_EQ(driver_->ledger.MemoryBytes(), WindowRecords::kWindowBytes + 4 + 8 + 512 / 8);
}

TEST_F(LedgerTest, NothingSharedIsNotRecorded) {
  driver_->Add(0);
  driver_->Add(1, 0);
  driver_->Map(0, kPage, 100);
  driver_->Map(1, kPage, 101);
  EXPECT_EQ(driver_->Pass().verdicts, Words{});
  EXPECT_TRUE(driver_->ledger.empty());
  EXPECT_EQ(driver_->ledger.MemoryBytes(), 0U);
}

TEST_F(LedgerTest, ParentBreaks) {
  Share();
  driver_->Map(0, kPage, 200);
  const PassResult pass = driver_->Pass();
  EXPECT_EQ(pass.verdicts, Words{"0 broke 5, kept by 1"});
  EXPECT_EQ(pass.exposure_pages, 0);
  EXPECT_TRUE(pass.shared.empty());
  ExpectStable(0);
  EXPECT_TRUE(driver_->ledger.empty());
}

TEST_F(LedgerTest, ChildBreaks) {
  Share();
  driver_->Map(1, kPage, 200);
  EXPECT_EQ(driver_->Pass().verdicts, Words{"1 broke 5, kept by 0"});
  ExpectStable(0);
}

TEST_F(LedgerTest, LastHoldersRewriteIsNoBreak) {
  Share();
  driver_->Map(1, kPage, 200);
  driver_->Pass();
  driver_->Map(0, kPage, 300);
  ExpectStable(0);
}

TEST_F(LedgerTest, TwoOfThreeBreak) {
  Share(3);
  driver_->Map(0, kPage, 200);
  driver_->Map(2, kPage, 202);
  EXPECT_EQ(driver_->Pass().verdicts, (Words{"0 broke 5, kept by 1 2", "2 broke 5, kept by 0 1"}));
  ExpectStable(0);
}

TEST_F(LedgerTest, OneOfThreeBreaksAndTheOthersGoOnSharing) {
  Share(3);
  driver_->Map(1, kPage, 200);
  const PassResult pass = driver_->Pass();
  EXPECT_EQ(pass.verdicts, Words{"1 broke 5, kept by 0 2"});
  EXPECT_EQ(pass.exposure_pages, 1);
  driver_->Map(2, kPage, 202);
  EXPECT_EQ(driver_->Pass().verdicts, Words{"2 broke 5, kept by 0"});
}

TEST_F(LedgerTest, SameNewFrameMoved) {
  Share();
  driver_->Map(0, kPage, 200);
  driver_->Map(1, kPage, 200);
  ExpectStable(1);
  driver_->Map(1, kPage, 300);
  EXPECT_EQ(driver_->Pass().verdicts, Words{"1 broke 5, kept by 0"});
}

TEST_F(LedgerTest, OneOfThreeBreaksWhileThePageMoves) {
  Share(3);
  driver_->Map(0, kPage, 200);
  driver_->Map(1, kPage, 201);
  driver_->Map(2, kPage, 200);
  const PassResult pass = driver_->Pass();
  EXPECT_EQ(pass.verdicts, Words{"1 broke 5, kept by 0 2"});
  EXPECT_EQ(pass.exposure_pages, 1);
}

TEST_F(LedgerTest, AllChangedDifferentlyIsOneBreakLess) {
  Share(3);
  for (const Slot slot : {0U, 1U, 2U}) driver_->Map(slot, kPage, 200 + slot);
  const PassResult pass = driver_->Pass();
  EXPECT_EQ(pass.unknown_breaks, 2U);
  EXPECT_EQ(pass.verdicts.size(), 2U);
  ExpectStable(0);
}

TEST_F(LedgerTest, TheOnlyUnmarkedPageTellsTheSides) {
  Share(3);
  for (const Slot slot : {0U, 1U, 2U}) {
    driver_->Map(slot, kPage, 200 + slot);
    driver_->MarkExclusive(200 + slot, slot != 1);
  }
  const PassResult pass = driver_->Pass();
  EXPECT_EQ(pass.verdicts, (Words{"0 broke 5, kept by 1 2", "2 broke 5, kept by 0 1"}));
  EXPECT_EQ(pass.questions, (std::set<uint64_t>{200, 201, 202}));
}

TEST_F(LedgerTest, MarksThatTellNothingLeaveTheSideUnknown) {
  for (const bool exclusive : {true, false}) {
    StartAgain();
    Share();
    for (const Slot slot : {0U, 1U}) {
      driver_->Map(slot, kPage, 200 + slot);
      driver_->MarkExclusive(200 + slot, exclusive);
    }
    const PassResult pass = driver_->Pass();
    EXPECT_EQ(pass.unknown_breaks, 1U) << exclusive;
    EXPECT_TRUE(pass.breaks.empty()) << exclusive;
  }
}

TEST_F(LedgerTest, MarksOfAnOldKernelLeaveTheSideUnknown) {
  driver_->frame_words.marks = ExclusiveMarks::kNone;
  Share();
  driver_->Map(0, kPage, 200);
  driver_->Map(1, kPage, 201);
  driver_->MarkExclusive(200, true);
  driver_->MarkExclusive(201, false);
  EXPECT_EQ(driver_->Pass().unknown_breaks, 1U);
}

TEST_F(LedgerTest, ChangedWhileTheOtherExited) {
  Share();
  driver_->Map(0, kPage, 200);
  driver_->Exit(1);
  EXPECT_EQ(driver_->Pass().verdicts, Words{"0 broke 5, kept by 1"});
  ExpectStable(0);
}

TEST_F(LedgerTest, ChangedWhileTheOtherDropped) {
  Share();
  driver_->Map(1, kPage, 200);
  driver_->Drop(0, kPage);
  const PassResult pass = driver_->Pass();
  EXPECT_EQ(pass.breaks, (std::map<Slot, uint64_t>{{1, 1}}));
  EXPECT_TRUE(pass.unshared.empty());
}

TEST_F(LedgerTest, ExitUnshares) {
  Share();
  driver_->Exit(1);
  EXPECT_EQ(driver_->Pass().verdicts, Words{"0 left alone by exit at 5"});
  EXPECT_TRUE(driver_->ledger.empty());
  ExpectStable(0);
}

TEST_F(LedgerTest, ExitUnsharesManyPagesAtOnce) {
  driver_->Add(0);
  driver_->Add(1, 0);
  for (const Slot slot : {0U, 1U}) driver_->MapRun(slot, 60, 1000, 600);
  EXPECT_EQ(driver_->Pass().exposure_pages, 600);
  driver_->Exit(1);
  const PassResult pass = driver_->Pass();
  EXPECT_EQ(pass.unshared, (std::map<UnshareCause, uint64_t>{{UnshareCause::kExit, 600}}));
  EXPECT_EQ(pass.verdicts, (Words{"0 left alone by exit at 512 x148", "0 left alone by exit at 60 x452"}));
}

TEST_F(LedgerTest, ExitOfOneOfThreeKeepsTheGroup) {
  Share(3);
  driver_->Exit(2);
  ExpectStable(1);
  driver_->Map(0, kPage, 200);
  EXPECT_EQ(driver_->Pass().verdicts, Words{"0 broke 5, kept by 1"});
}

TEST_F(LedgerTest, ExitOfAllLeavesNothing) {
  Share();
  driver_->Add(2, 0);
  driver_->Exit(0);
  driver_->Exit(1);
  ExpectStable(0);
  EXPECT_TRUE(driver_->ledger.empty());
  EXPECT_FALSE(driver_->ledger.IsDeparting(MemberIndex(0)));
}

TEST_F(LedgerTest, UnmapUnshares) {
  Share();
  driver_->Drop(0, kPage);
  EXPECT_EQ(driver_->Pass().verdicts, Words{"1 left alone by unmap at 5"});
  ExpectStable(0);
}

TEST_F(LedgerTest, PageCachePageInItsPlaceIsAnUnmap) {
  Share();
  driver_->MapEntry(0, kPage, procfs::kPagemapPresent | procfs::kPagemapFile | 900);
  EXPECT_EQ(driver_->Pass().verdicts, Words{"1 left alone by unmap at 5"});
}

TEST_F(LedgerTest, GuardMarkerIsAnUnmap) {
  Share();
  driver_->MapEntry(0, kPage, procfs::kPagemapSwapped | procfs::kPagemapGuard | 31);
  EXPECT_EQ(driver_->Pass().verdicts, Words{"1 left alone by unmap at 5"});
}

TEST_F(LedgerTest, UserfaultfdMarkerIsAnUnmap) {
  Share();
  driver_->MapEntry(0, kPage, procfs::kPagemapSwapped | uint64_t{1} << 5 | 31);
  const PassResult pass = driver_->Pass();
  EXPECT_EQ(pass.verdicts, Words{"1 left alone by unmap at 5"});
  EXPECT_EQ(pass.unresolved_pages, 0U);
}

TEST_F(LedgerTest, DropByOneOfThreeKeepsTheGroup) {
  Share(3);
  driver_->Drop(1, kPage);
  ExpectStable(1);
  driver_->Map(2, kPage, 200);
  EXPECT_EQ(driver_->Pass().verdicts, Words{"2 broke 5, kept by 0"});
}

TEST_F(LedgerTest, FreshPageHasNoVerdict) {
  Share();
  driver_->Map(0, kPage + 1, 300);
  driver_->Map(1, kPage + 1, 301);
  driver_->Map(1, kPage + 2, 302);
  ExpectStable(1);
}

TEST_F(LedgerTest, NewChildJoinsTheGroup) {
  Share();
  driver_->Fork(1, 2);
  ExpectStable(2);
  driver_->Map(2, kPage, 200);
  EXPECT_EQ(driver_->Pass().verdicts, Words{"2 broke 5, kept by 0 1"});
}

TEST_F(LedgerTest, SeveralFramesAreSharedAtOneAddress) {
  Share(3);
  driver_->Map(0, kPage, 200);
  EXPECT_EQ(driver_->Pass().verdicts, Words{"0 broke 5, kept by 1 2"});
  driver_->Fork(0, 3);
  driver_->Fork(0, 4);
  PassResult pass = driver_->Pass();
  EXPECT_EQ(pass.verdicts, Words{});
  EXPECT_EQ(pass.exposure_pages, 3);
  EXPECT_EQ(pass.shared.size(), 5U);

  driver_->Map(4, kPage, 204);
  pass = driver_->Pass();
  EXPECT_EQ(pass.verdicts, Words{"4 broke 5, kept by 0 3"});
  EXPECT_EQ(pass.exposure_pages, 2);

  driver_->Map(2, kPage, 202);
  EXPECT_EQ(driver_->Pass().verdicts, Words{"2 broke 5, kept by 1"});

  driver_->Exit(3);
  EXPECT_EQ(driver_->Pass().verdicts, Words{"0 left alone by exit at 5"});
  EXPECT_TRUE(driver_->ledger.empty());
  EXPECT_FALSE(driver_->ledger.IsDeparting(MemberIndex(3)));
}

TEST_F(LedgerTest, BothGroupsOfAnAddressBreakAtOnce) {
  Share();
  driver_->Map(0, kPage, 200);
  driver_->Pass();
  driver_->Fork(0, 2);
  driver_->Fork(1, 3);
  ExpectStable(2);
  driver_->Map(2, kPage, 300);
  driver_->Map(1, kPage, 301);
  EXPECT_EQ(driver_->Pass().verdicts, (Words{"1 broke 5, kept by 3", "2 broke 5, kept by 0"}));
  ExpectStable(0);
}

TEST_F(LedgerTest, ZeroPageIsNeverShared) {
  driver_->Add(0);
  driver_->Add(1, 0, true);
  for (const Slot slot : {0U, 1U}) driver_->Map(slot, kPage, kTestZeroFrame);
  ExpectStable(0);
  driver_->Map(1, kPage, 200);
  ExpectStable(0);
  EXPECT_TRUE(driver_->ledger.empty());
}

TEST_F(LedgerTest, PageCacheIsNeverShared) {
  driver_->Add(0);
  driver_->Add(1, 0, true);
  const uint64_t cache = procfs::kPagemapPresent | procfs::kPagemapFile | 900;
  for (const Slot slot : {0U, 1U}) driver_->MapEntry(slot, kPage, cache);
  ExpectStable(0);
  driver_->Map(1, kPage, 200);
  ExpectStable(0);
}

TEST_F(LedgerTest, UnstablePagesAreLeftForTheNextPass) {
  Share();
  driver_->Map(1, kPage, 200);
  driver_->unstable = {kPage};
  EXPECT_EQ(driver_->Pass().verdicts, Words{});
  driver_->unstable.clear();
  EXPECT_EQ(driver_->Pass().verdicts, Words{"1 broke 5, kept by 0"});
}

TEST_F(LedgerTest, UnstablePageKeepsADepartedMembersSlot) {
  Share();
  driver_->Map(0, kPage, 200);
  driver_->Exit(1);
  driver_->unstable = {kPage};
  EXPECT_EQ(driver_->Pass().verdicts, Words{});
  EXPECT_TRUE(driver_->ledger.IsDeparting(MemberIndex(1)));
  driver_->unstable.clear();
  EXPECT_EQ(driver_->Pass().verdicts, Words{"0 broke 5, kept by 1"});
  EXPECT_FALSE(driver_->ledger.IsDeparting(MemberIndex(1)));
}

TEST_F(LedgerTest, MemberThatCouldNotBeReadLosesNothing) {
  Share();
  driver_->At(1).read = false;
  EXPECT_EQ(driver_->Pass().verdicts, Words{});
  driver_->At(1).read = true;
  ExpectStable(1);
  driver_->Map(0, kPage, 200);
  EXPECT_EQ(driver_->Pass().verdicts, Words{"0 broke 5, kept by 1"});
}

TEST_F(LedgerTest, BreakWhileAnotherMemberCouldNotBeRead) {
  Share(3);
  driver_->At(2).read = false;
  driver_->Map(1, kPage, 200);
  EXPECT_EQ(driver_->Pass().breaks, (std::map<Slot, uint64_t>{{1, 1}}));
  driver_->At(2).read = true;
  ExpectStable(1);
}

TEST_F(LedgerTest, BreakOfAMemberThatCouldNotBeReadIsFoundLater) {
  Share(3);
  driver_->At(2).read = false;
  driver_->Map(2, kPage, 200);
  EXPECT_EQ(driver_->Pass().verdicts, Words{});
  driver_->At(2).read = true;
  EXPECT_EQ(driver_->Pass().breaks, (std::map<Slot, uint64_t>{{2, 1}}));
  ExpectStable(1);
}

TEST_F(LedgerTest, BreakWhileTheOnlyPartnerCouldNotBeReadIsFoundLater) {
  Share();
  driver_->At(1).read = false;
  driver_->Map(0, kPage, 200);
  EXPECT_EQ(driver_->Pass().verdicts, Words{});
  driver_->At(1).read = true;
  EXPECT_EQ(driver_->Pass().breaks, (std::map<Slot, uint64_t>{{0, 1}}));
  ExpectStable(0);
}

TEST_F(LedgerTest, MoverThatCouldNotBeReadLosesNothing) {
  Share();
  driver_->Move(1, kPage, kFar);
  driver_->Pass();
  driver_->At(1).read = false;
  EXPECT_EQ(driver_->Pass().verdicts, Words{});
  driver_->At(1).read = true;
  ExpectStable(1);
}

TEST_F(LedgerTest, DepartedMembersSlotIsFreeAfterThePass) {
  Share(3);
  driver_->Exit(1);
  EXPECT_TRUE(driver_->ledger.IsDeparting(MemberIndex(1)));
  driver_->Pass();
  EXPECT_FALSE(driver_->ledger.IsDeparting(MemberIndex(1)));
}

TEST_F(LedgerTest, ReusedSlotInheritsNothing) {
  Share(3);
  driver_->Exit(1);
  EXPECT_EQ(driver_->Pass().exposure_pages, 1);
  driver_->Add(1, 2);
  driver_->Map(1, kPage, 200);
  ExpectStable(1);
  driver_->Map(2, kPage, 201);
  EXPECT_EQ(driver_->Pass().verdicts, Words{"2 broke 5, kept by 0"});
}

TEST_F(LedgerTest, BreakIsWitnessedByAHolderReadAfterTheBreaker) {
  Share();
  driver_->Map(1, kPage, 200);
  EXPECT_EQ(driver_->Pass().witnesses, std::set<Slot>{0});

  StartAgain();
  Share();
  driver_->ReverseReadingOrder();
  driver_->Map(1, kPage, 200);
  EXPECT_EQ(driver_->Pass().witnesses, std::set<Slot>{});
}

TEST_F(LedgerTest, AllChangedAsksForAWitness) {
  Share();
  driver_->Map(0, kPage, 200);
  driver_->Map(1, kPage, 201);
  EXPECT_EQ(driver_->Pass().witnesses, std::set<Slot>{0});
}

TEST_F(LedgerTest, BudgetIsSharedAndGivenBack) {
  LedgerBudget budget;
  {
    Ledger ledger(512, Pfn(kTestZeroFrame), &budget);
    std::vector<PageEntry> entries(512);
    entries[kPage] = PageEntry(procfs::kPagemapPresent | 100);
    const std::vector<Reading> readings{{MemberIndex(0), entries.data(), false, MemberIndex::None(), true},
                                        {MemberIndex(1), entries.data(), false, MemberIndex::None(), false}};
    Comparison comparison;
    Judgement judgement;
    WindowSharing sharing;
    ledger.BeginPass();
    for (const WindowIndex window : {WindowIndex(0), WindowIndex(1)}) {
      ledger.Compare(window, readings, {}, comparison);
      ledger.Commit(window, readings, FrameFacts(), comparison, judgement, sharing);
      EXPECT_EQ(sharing.exposure_pages, 1U);
    }
    EXPECT_EQ(budget.used_bytes, ledger.MemoryBytes());
    EXPECT_GT(budget.used_bytes, 2 * WindowRecords::kWindowBytes);
  }
  EXPECT_EQ(budget.used_bytes, 0U);
}

TEST_F(LedgerTest, UnchangedWindowIsQuiet) {
  Share();
  const PassResult pass = driver_->Pass();
  EXPECT_TRUE(pass.questions.empty());
  EXPECT_TRUE(pass.witnesses.empty());
}

TEST_F(LedgerTest, UnmappedWindowIsStillVisited) {
  Share();
  driver_->Drop(0, kPage);
  driver_->Drop(1, kPage);
  ExpectStable(0);
  EXPECT_TRUE(driver_->ledger.empty());
}

}  // namespace
}  // namespace cow::memory
