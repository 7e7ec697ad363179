#include "collectors/memory/ledger/ledger.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "tests/unit/memory/ledger/ledger_driver.h"

namespace cow::memory {
namespace {

using Words = std::vector<std::string>;

constexpr uint64_t kPage = 5;
constexpr uint64_t kFar = 5000;  // a page of another window

class LedgerTest : public testing::Test {
 protected:
  // `members` members share frame 100 at kPage, as an earlier pass saw.
  void Share(Slot members = 2) {
    for (Slot slot = 0; slot < members; ++slot) {
      driver_->Add(slot, slot == 0 ? Verdict::kNobody : 0);
      driver_->Map(slot, kPage, 100);
    }
    const PassResult pass = driver_->Pass();
    ASSERT_EQ(pass.verdicts, Words{});
    ASSERT_EQ(pass.exposure_pages, members - 1);
  }
  // Two members share a window of single pages, from page 512 on, as an earlier pass saw.
  void ShareSmallPages() {
    driver_->Add(0);
    driver_->Add(1, 0);
    for (const Slot slot : {0U, 1U}) {
      for (uint64_t i = 0; i < 512; ++i) driver_->Map(slot, 512 + i, 1000 + 2 * i);
    }
    ASSERT_EQ(driver_->Pass().exposure_pages, 512);
  }
  // Expects that another pass finds no verdict.
  void ExpectStable(int64_t exposure_pages) {
    const PassResult pass = driver_->Pass();
    EXPECT_EQ(pass.verdicts, Words{});
    EXPECT_EQ(pass.exposure_pages, exposure_pages);
  }

  void StartAgain() { driver_ = std::make_unique<LedgerDriver>(); }

  std::unique_ptr<LedgerDriver> driver_ = std::make_unique<LedgerDriver>();
};

TEST_F(LedgerTest, SameFrameIsShared) {
  Share(3);
  const PassResult pass = driver_->Pass();
  EXPECT_EQ(pass.verdicts, Words{});
  EXPECT_EQ(pass.shared, (std::map<Slot, uint64_t>{{0, 1}, {1, 1}, {2, 1}}));
  EXPECT_EQ(pass.exposure_pages, 2);
  EXPECT_EQ(driver_->ledger.Windows(), std::vector<uint64_t>{0});
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
  EXPECT_FALSE(driver_->ledger.IsDeparting(0));
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

TEST_F(LedgerTest, FirstLookOfTwoExclusivePagesIsUnattributed) {
  driver_->Add(0);
  driver_->Add(1, 0, true);
  driver_->Map(0, kPage, 100);
  driver_->Map(1, kPage, 101);
  driver_->MarkExclusive(100, true);
  driver_->MarkExclusive(101, true);
  EXPECT_EQ(driver_->Pass().verdicts, Words{"1 unattributed 5"});
  ExpectStable(0);
}

TEST_F(LedgerTest, FirstLookWithoutMarksIsUnattributed) {
  driver_->Add(0);
  driver_->Add(1, 0, true);
  driver_->Map(0, kPage, 100);
  driver_->Map(1, kPage, 101);
  EXPECT_EQ(driver_->Pass().verdicts, Words{"1 unattributed 5"});
}

TEST_F(LedgerTest, FirstLookWithoutRelativesPageIsFresh) {
  driver_->Add(0);
  driver_->Add(1, 0, true);
  driver_->Map(1, kPage, 101);
  driver_->MarkExclusive(101, true);
  EXPECT_EQ(driver_->Pass().verdicts, Words{});
}

TEST_F(LedgerTest, FirstLookInfersTheChildsBreak) {
  driver_->Add(0);
  driver_->Add(1, 0, true);
  driver_->Map(0, kPage, 100);
  driver_->Map(1, kPage, 101);
  driver_->MarkExclusive(100, false);
  driver_->MarkExclusive(101, true);
  const PassResult pass = driver_->Pass();
  EXPECT_EQ(pass.verdicts, Words{"1 broke 5, inferred, kept by 0"});
  EXPECT_EQ(pass.questions, (std::set<uint64_t>{100, 101}));
  EXPECT_FALSE(pass.witnesses.empty());
  ExpectStable(0);
}

TEST_F(LedgerTest, FirstLookInfersTheParentsBreak) {
  driver_->Add(0);
  driver_->Add(1, 0, true);
  driver_->Map(0, kPage, 100);
  driver_->Map(1, kPage, 101);
  driver_->MarkExclusive(100, true);
  driver_->MarkExclusive(101, false);
  EXPECT_EQ(driver_->Pass().verdicts, Words{"0 broke 5, inferred, kept by 1"});
  ExpectStable(0);
}

// Either the member copied, then forked, and that child copied in turn; or the parent copied. In the first case the
// fork cleared the mark of the member's own copy.
TEST_F(LedgerTest, FirstLookTakesNoMarkOfAMembersOwnForkForItsParents) {
  driver_->Add(0);
  driver_->Add(1, 0, true);
  driver_->Add(2, 1, true);
  for (const Slot slot : {0U, 1U, 2U}) driver_->Map(slot, kPage, 100 + slot);
  driver_->MarkExclusive(100, false);
  driver_->MarkExclusive(101, false);
  driver_->MarkExclusive(102, true);
  EXPECT_EQ(driver_->Pass().verdicts, (Words{"1 unattributed 5", "2 broke 5, inferred, kept by 1"}));
  ExpectStable(0);
}

TEST_F(LedgerTest, FirstLookCountsTheParentsBreakOnceForAllHeirs) {
  driver_->Add(0);
  driver_->Map(0, kPage, 100);
  driver_->MarkExclusive(100, true);
  for (const Slot slot : {1U, 2U, 3U}) {
    driver_->Add(slot, 0, true);
    driver_->Map(slot, kPage, 101);
  }
  driver_->MarkExclusive(101, false);
  const PassResult pass = driver_->Pass();
  EXPECT_EQ(pass.breaks, (std::map<Slot, uint64_t>{{0, 1}}));
  EXPECT_EQ(pass.verdicts.size(), 1U);
  EXPECT_EQ(pass.exposure_pages, 2);
}

TEST_F(LedgerTest, ParentsBreakAfterItsForkIsSeenAndNotInferredAgain) {
  Share();
  driver_->Fork(0, 2);
  driver_->Map(0, kPage, 200);
  driver_->MarkExclusive(200, true);
  driver_->MarkExclusive(100, false);
  const PassResult pass = driver_->Pass();
  EXPECT_EQ(pass.breaks, (std::map<Slot, uint64_t>{{0, 1}}));
  EXPECT_EQ(pass.verdicts.size(), 1U);
  EXPECT_EQ(pass.exposure_pages, 1);
}

// A new child still has the frame that both members copied. One member's fork cleared its copy's mark, but the copy is
// not a moved original.
TEST_F(LedgerTest, FrameThatANewcomerHasWasNotMoved) {
  Share();
  driver_->Fork(0, 2);
  driver_->Map(0, kPage, 200);
  driver_->Map(1, kPage, 201);
  driver_->Fork(1, 3);
  driver_->MarkExclusive(100, false);
  driver_->MarkExclusive(200, true);
  driver_->MarkExclusive(201, false);
  const PassResult pass = driver_->Pass();
  EXPECT_EQ(pass.breaks, (std::map<Slot, uint64_t>{{0, 1}, {1, 1}}));
  EXPECT_EQ(pass.verdicts.size(), 2U);
  EXPECT_EQ(pass.exposure_pages, 1);
}

// The parent pid of an orphan names the process that adopted it: perhaps a relative that never had the page.
TEST_F(LedgerTest, FirstLookAtAnOrphanIsNoBreakOfItsAdopter) {
  driver_->Add(0);
  driver_->Add(1, 0);
  driver_->Map(0, kPage, 100);
  driver_->Map(1, kPage, 101);
  driver_->MarkExclusive(100, true);
  driver_->Pass();
  driver_->Add(2, 0, true);
  driver_->Map(2, kPage, 101);
  driver_->MarkExclusive(101, false);
  const PassResult pass = driver_->Pass();
  EXPECT_EQ(pass.verdicts, Words{});
  EXPECT_EQ(pass.exposure_pages, 1);
}

TEST_F(LedgerTest, MembersOlderThanTheExporterAreBaseline) {
  driver_->Add(0);
  driver_->Add(1, 0, false);
  driver_->Map(0, kPage, 100);
  driver_->Map(1, kPage, 101);
  driver_->MarkExclusive(100, false);
  driver_->MarkExclusive(101, true);
  EXPECT_EQ(driver_->Pass().verdicts, Words{});
}

class LedgerFirstLookTest : public LedgerTest {
 protected:
  // A parent has frame 100 and its child frame 101 at kPage, with these marks.
  void Differ(bool parent_exclusive, bool child_exclusive) {
    driver_->Add(0);
    driver_->Add(1, 0, true);
    driver_->Map(0, kPage, 100);
    driver_->Map(1, kPage, 101);
    driver_->MarkExclusive(100, parent_exclusive);
    driver_->MarkExclusive(101, child_exclusive);
  }
  void ExpectUnattributed() { EXPECT_EQ(driver_->Pass().verdicts, Words{"1 unattributed 5"}); }
};

TEST_F(LedgerFirstLookTest, ChildsCopyNeedsAParentThatForkedNobodySince) {
  Differ(false, true);
  driver_->At(1).forks = {true, false, true};
  ExpectUnattributed();
}

TEST_F(LedgerFirstLookTest, ParentsCopyNeedsAChildThatForkedNobody) {
  Differ(true, false);
  driver_->At(1).forks = {true, true, false};
  ExpectUnattributed();
}

TEST_F(LedgerFirstLookTest, AdoptedChildProvesNothing) {
  Differ(true, false);
  driver_->At(1).forks = {false, true, true};
  ExpectUnattributed();
  StartAgain();
  Differ(false, true);
  driver_->At(1).forks = {false, true, true};
  ExpectUnattributed();
}

TEST_F(LedgerFirstLookTest, ForkOfThePartnerDoesNotMatter) {
  Differ(true, false);
  driver_->At(1).forks = {true, false, true};
  EXPECT_EQ(driver_->Pass().verdicts, Words{"0 broke 5, inferred, kept by 1"});
  StartAgain();
  Differ(false, true);
  driver_->At(1).forks = {true, true, false};
  EXPECT_EQ(driver_->Pass().verdicts, Words{"1 broke 5, inferred, kept by 0"});
}

TEST_F(LedgerFirstLookTest, ParentsOwnMarkIsNeeded) {
  Differ(false, false);
  ExpectUnattributed();
}

// One sibling forked the other and shares a page with it. The parent's own page only shows that the parent copied
// nothing.
TEST_F(LedgerFirstLookTest, SiblingsMayHaveAPageFromEachOther) {
  Differ(true, false);
  driver_->Add(2, 0, true).forks = {false, true, true};
  driver_->Map(2, kPage, 101);
  driver_->At(1).forks = {true, true, false};
  const PassResult pass = driver_->Pass();
  EXPECT_EQ(pass.Breaks(), 0U);
  EXPECT_EQ(pass.verdicts, Words{"1 unattributed 5"}) << "once";
}

// A member forked, then copied its parent's page. Both its parent and its child show that copy.
TEST_F(LedgerFirstLookTest, OneCopyInTheMiddleOfAChainIsCountedOnce) {
  driver_->Add(0);
  driver_->Add(1, 0, true);
  driver_->Add(2, 1, true);
  driver_->Add(3, 2, true);
  for (const Slot slot : {Slot{1}, Slot{3}}) driver_->Map(slot, kPage, 100);
  driver_->Map(2, kPage, 101);
  driver_->MarkExclusive(100, false);
  driver_->MarkExclusive(101, true);
  EXPECT_EQ(driver_->Pass().breaks, (std::map<Slot, uint64_t>{{2, 1}}));
}

TEST_F(LedgerFirstLookTest, OneHeirsForksSufficeForAll) {
  Differ(true, false);
  driver_->Add(2, 0, true);
  driver_->Map(2, kPage, 101);
  driver_->At(1).forks = {true, false, false};
  EXPECT_EQ(driver_->Pass().breaks, (std::map<Slot, uint64_t>{{0, 1}}));
}

// Another process maps the original too, so it may have been moved here.
TEST_F(LedgerFirstLookTest, OriginalThatIsMappedElsewhereTooProvesNothing) {
  for (const bool parents : {false, true}) {
    StartAgain();
    Differ(!parents, parents);
    driver_->unseen_mappers[parents ? 100 : 101] = 1;
    ExpectUnattributed();
  }
}

TEST_F(LedgerFirstLookTest, PagesFromSwapProveNothing) {
  Differ(false, true);
  driver_->swapped_in = true;
  ExpectUnattributed();
}

// Copy-on-write makes single pages: an exclusive page of a large folio was collapsed or is fresh.
TEST_F(LedgerFirstLookTest, PageOfALargeFolioIsNoCopy) {
  for (const bool parents : {false, true}) {
    StartAgain();
    Differ(parents, !parents);
    driver_->MarkLarge(parents ? 100 : 101);
    ExpectUnattributed();
  }
}

TEST_F(LedgerTest, FirstLookIsJudgedOnce) {
  driver_->Add(0);
  driver_->Add(1, 0, true);
  driver_->Map(0, kPage, 100);
  driver_->Map(1, kPage, 101);
  EXPECT_EQ(driver_->Pass().unattributed, (std::map<Slot, uint64_t>{{1, 1}}));
  driver_->Map(0, kPage + 1, 102);
  driver_->Map(1, kPage + 1, 103);
  ExpectStable(0);
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
  EXPECT_FALSE(driver_->ledger.IsDeparting(3));
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

TEST_F(LedgerTest, MergedPageIsNeverShared) {
  driver_->ksm_in_use = true;
  driver_->Add(0);
  driver_->Add(1, 0, true);
  for (const Slot slot : {0U, 1U}) driver_->Map(slot, kPage, 100);
  driver_->MarkKsm(100);
  const PassResult pass = driver_->Pass();
  EXPECT_EQ(pass.verdicts, Words{});
  EXPECT_EQ(pass.exposure_pages, 0);
  EXPECT_EQ(pass.ksm, (std::map<Slot, uint64_t>{{0, 1}, {1, 1}}));
  EXPECT_EQ(pass.questions, std::set<uint64_t>{100});
  EXPECT_EQ(pass.unmatched_pages, 0U);
  driver_->Map(1, kPage, 200);
  EXPECT_EQ(driver_->Pass().verdicts, Words{});
  EXPECT_TRUE(driver_->ledger.empty());
}

// The kernel sets the flag on every anonymous page.
TEST_F(LedgerTest, UselessMergedFlagCountsForNothing) {
  driver_->frame_words.merged_flag = false;
  driver_->MarkKsm(100);
  driver_->MarkKsm(200);
  Share();
  driver_->Map(1, kPage, 200);
  EXPECT_EQ(driver_->Pass().verdicts, Words{"1 broke 5, kept by 0"});
  ExpectStable(0);
}

// With KSM in use, a page that is not exclusive may be merged or shared by fork: it is unresolved.
TEST_F(LedgerTest, MaybeMergedPageIsUnresolved) {
  driver_->frame_words.merged_flag = false;
  driver_->MarkKsm(100);
  Share();
  driver_->ksm_in_use = true;
  PassResult pass = driver_->Pass();
  EXPECT_EQ(pass.verdicts, Words{});
  EXPECT_EQ(pass.exposure_pages, 0);
  EXPECT_EQ(pass.maybe_ksm_pages, 2U);
  EXPECT_EQ(pass.unresolved_pages, 2U);
  EXPECT_TRUE(pass.ksm.empty());
  EXPECT_EQ(pass.unmatched_pages, 0U);
  driver_->Map(1, kPage, 200);
  driver_->MarkExclusive(200, true);
  pass = driver_->Pass();
  EXPECT_EQ(pass.verdicts, Words{});
  EXPECT_EQ(pass.exposure_pages, 0);
  // With KSM switched off, the page counts as shared by fork again.
  driver_->ksm_in_use = false;
  driver_->Map(1, kPage, 100);
  pass = driver_->Pass();
  EXPECT_EQ(pass.verdicts, Words{});
  EXPECT_EQ(pass.exposure_pages, 1);
  EXPECT_EQ(pass.unresolved_pages, 0U);
}

// KSM merges small pages only, and a merged page is never exclusive.
TEST_F(LedgerTest, PagesThatKsmCannotHaveMergedAreJudged) {
  driver_->frame_words.merged_flag = false;
  driver_->ksm_in_use = true;
  driver_->MarkInFolio(100);
  Share();
  driver_->Map(1, kPage, 200);
  driver_->MarkExclusive(200, true);
  EXPECT_EQ(driver_->Pass().verdicts, Words{"1 broke 5, kept by 0"});
}

// The kernel counts the folio only: a page that one process maps has bit 56 clear and kpagecount 2.
TEST_F(LedgerTest, PageCountedAsItsFolioIsJudgedByItsFrame) {
  driver_->frame_words.page_counts = false;
  driver_->MarkInFolio(100);
  driver_->MarkInFolio(101);
  driver_->unseen_mappers = {{100, 1}, {101, 1}};  // excess of the folio's count
  Share();
  driver_->Map(0, kPage + 1, 101);
  PassResult pass = driver_->Pass();
  EXPECT_EQ(pass.exposure_pages, 1);
  EXPECT_EQ(pass.unmatched_pages, 0U) << "nothing tells";
  driver_->Exit(1);
  pass = driver_->Pass();
  EXPECT_EQ(pass.verdicts, Words{"0 left alone by exit at 5"});
  EXPECT_EQ(pass.unmatched_pages, 0U);
  ExpectStable(0);
}

TEST_F(LedgerTest, WithoutBit56FramesAndCountsTell) {
  driver_->mapped_once_known = false;
  Share();
  driver_->Map(0, kPage + 1, 300);
  driver_->Map(0, kPage + 2, 301);
  driver_->unseen_mappers[301] = 1;
  PassResult pass = driver_->Pass();
  EXPECT_EQ(pass.verdicts, Words{});
  EXPECT_EQ(pass.exposure_pages, 1);
  EXPECT_EQ(pass.unmatched_pages, 1U);
  driver_->Exit(1);
  EXPECT_EQ(driver_->Pass().verdicts, Words{"0 left alone by exit at 5"});
}

// KSM makes the first of the pages that it merges its own in place.
TEST_F(LedgerTest, SharedFrameThatBecomesKsms) {
  driver_->ksm_in_use = true;
  Share();
  driver_->MarkKsm(100);
  const PassResult merged = driver_->Pass();
  EXPECT_EQ(merged.verdicts, Words{});
  EXPECT_EQ(merged.exposure_pages, 0);
  EXPECT_EQ(merged.ksm, (std::map<Slot, uint64_t>{{0, 1}, {1, 1}}));
  // Unmerged: each member has its own page, which is not a copy of a page shared by fork.
  driver_->Map(0, kPage, 200);
  driver_->Map(1, kPage, 201);
  ExpectStable(0);
  EXPECT_TRUE(driver_->ledger.empty());
}

TEST_F(LedgerTest, OneHoldersPageIsMerged) {
  driver_->ksm_in_use = true;
  Share();
  driver_->Map(1, kPage, 300);
  driver_->MarkKsm(300);
  EXPECT_EQ(driver_->Pass().Breaks(), 0U);
  ExpectStable(0);
}

TEST_F(LedgerTest, ForkedPageIsSharedWhereKsmIsInUseElsewhere) {
  driver_->ksm_in_use = true;
  Share();
  driver_->Map(1, kPage, 200);
  EXPECT_EQ(driver_->Pass().verdicts, Words{"1 broke 5, kept by 0"});
}

TEST_F(LedgerTest, SwappedOnOneSideIsUnresolved) {
  Share();
  driver_->SwapOut(1, kPage, 9);
  const PassResult pass = driver_->Pass();
  EXPECT_EQ(pass.verdicts, Words{});
  EXPECT_EQ(pass.unresolved_pages, 1U);
  EXPECT_EQ(pass.exposure_pages, 0);
  driver_->Map(1, kPage, 100);
  const PassResult back = driver_->Pass();
  EXPECT_EQ(back.verdicts, Words{});
  EXPECT_EQ(back.unresolved_pages, 0U);
  EXPECT_EQ(back.exposure_pages, 1);
  driver_->Map(1, kPage, 200);
  EXPECT_EQ(driver_->Pass().verdicts, Words{"1 broke 5, kept by 0"});
}

TEST_F(LedgerTest, SwappedOnBothSidesAndBackIsStillShared) {
  Share();
  for (const Slot slot : {0U, 1U}) driver_->SwapOut(slot, kPage, 9);
  PassResult pass = driver_->Pass();
  EXPECT_EQ(pass.verdicts, Words{});
  EXPECT_EQ(pass.unresolved_pages, 0U);
  driver_->Map(0, kPage, 200);
  pass = driver_->Pass();
  EXPECT_EQ(pass.verdicts, Words{});
  EXPECT_EQ(pass.unresolved_pages, 1U);
  driver_->Map(1, kPage, 200);
  pass = driver_->Pass();
  EXPECT_EQ(pass.verdicts, Words{});
  EXPECT_EQ(pass.exposure_pages, 1);
  driver_->Map(1, kPage, 300);
  EXPECT_EQ(driver_->Pass().verdicts, Words{"1 broke 5, kept by 0"});
}

TEST_F(LedgerTest, SwappedAndBackWithAFrameOfItsOwnIsNoBreak) {
  Share();
  driver_->SwapOut(1, kPage, 9);
  driver_->Pass();
  driver_->Map(1, kPage, 200);
  const PassResult pass = driver_->Pass();
  EXPECT_EQ(pass.verdicts, Words{"1 left alone by unknown at 5"});
  ExpectStable(0);
}

TEST_F(LedgerTest, SwappedOnBothSidesAndBackWithDifferentFramesIsNoBreak) {
  Share();
  for (const Slot slot : {0U, 1U}) driver_->SwapOut(slot, kPage, 9);
  driver_->Pass();
  driver_->Map(0, kPage, 200);
  driver_->Map(1, kPage, 201);
  const PassResult pass = driver_->Pass();
  EXPECT_EQ(pass.Breaks(), 0U);
  EXPECT_EQ(pass.unshared, (std::map<UnshareCause, uint64_t>{{UnshareCause::kUnknown, 1}}))
      << "one has the page itself";
  ExpectStable(0);
  EXPECT_TRUE(driver_->ledger.empty());
}

// Swapped out and in between two looks: both members freed the old frame, and a copy got it.
TEST_F(LedgerTest, FrameTakenAgainAfterSwapIsNotTheOldPage) {
  Share();
  driver_->swapped_in = true;
  driver_->Map(0, kPage, 200);
  driver_->MarkExclusive(100, true);
  driver_->MarkExclusive(200, false);
  EXPECT_EQ(driver_->Pass().verdicts, Words{"1 broke 5, kept by 0"});
}

TEST_F(LedgerTest, FrameThatWasKeptWhileOthersSwappedIsTheOldPage) {
  Share();
  driver_->swapped_in = true;
  driver_->Map(0, kPage, 200);
  driver_->MarkExclusive(100, false);
  driver_->MarkExclusive(200, true);
  EXPECT_EQ(driver_->Pass().verdicts, Words{"0 broke 5, kept by 1"});
}

TEST_F(LedgerTest, WhoHasTheOldPageAfterSwapIsUnknownWithoutMarks) {
  Share();
  driver_->swapped_in = true;
  driver_->Map(0, kPage, 200);
  driver_->MarkExclusive(100, true);
  driver_->MarkExclusive(200, true);
  EXPECT_EQ(driver_->Pass().verdicts, Words{"somebody broke 5"});
  ExpectStable(0);
}

TEST_F(LedgerTest, BackWithOneFrameWhileAThirdIsSwappedIsShared) {
  Share(3);
  for (const Slot slot : {0U, 1U, 2U}) driver_->SwapOut(slot, kPage, 9);
  driver_->Pass();
  driver_->Map(0, kPage, 200);
  driver_->Map(1, kPage, 200);
  const PassResult pass = driver_->Pass();
  EXPECT_EQ(pass.verdicts, Words{});
  EXPECT_EQ(pass.exposure_pages, 1);
  EXPECT_EQ(pass.unresolved_pages, 1U);
  driver_->Map(2, kPage, 200);
  ExpectStable(2);
}

TEST_F(LedgerTest, BreakOfOneWhileAnotherIsSwapped) {
  Share(3);
  driver_->SwapOut(2, kPage, 9);
  driver_->Map(1, kPage, 200);
  const PassResult pass = driver_->Pass();
  EXPECT_EQ(pass.breaks, (std::map<Slot, uint64_t>{{1, 1}}));
  EXPECT_EQ(pass.unresolved_pages, 1U);
  driver_->Map(2, kPage, 100);
  ExpectStable(1);
}

TEST_F(LedgerTest, MigrationEntryIsUnresolved) {
  Share();
  driver_->MapEntry(1, kPage, procfs::kPagemapSwapped | uint64_t{100} << 5 | 30);
  const PassResult pass = driver_->Pass();
  EXPECT_EQ(pass.verdicts, Words{});
  EXPECT_EQ(pass.unresolved_pages, 1U);
  for (const Slot slot : {0U, 1U}) driver_->Map(slot, kPage, 200);
  ExpectStable(1);
}

TEST_F(LedgerTest, ExitWhileSwappedUnshares) {
  Share();
  driver_->SwapOut(1, kPage, 9);
  driver_->Pass();
  driver_->Exit(1);
  EXPECT_EQ(driver_->Pass().verdicts, Words{"0 left alone by exit at 5"});
  EXPECT_TRUE(driver_->ledger.empty());
  EXPECT_FALSE(driver_->ledger.IsDeparting(1));
}

// Copy-on-write copies a hugetlb page as a whole, and khugepaged ignores it.
TEST_F(LedgerTest, CopyOfAHugetlbPageIsABreak) {
  for (const Slot slot : {0U, 1U}) {
    driver_->Add(slot, slot == 0 ? Verdict::kNobody : 0).hugetlb = true;
    driver_->MapRun(slot, 512, 1024, 512);
  }
  EXPECT_EQ(driver_->Pass().exposure_pages, 512);
  driver_->MapRun(1, 512, 8192, 512);
  const PassResult pass = driver_->Pass();
  EXPECT_EQ(pass.breaks, (std::map<Slot, uint64_t>{{1, 512}}));
  EXPECT_TRUE(pass.unshared.empty());
}

TEST_F(LedgerTest, CollapseUnsharesWithoutABreak) {
  driver_->Add(0);
  driver_->Add(1, 0);
  for (const Slot slot : {0U, 1U}) driver_->MapRun(slot, 512, 1000, 512);
  EXPECT_EQ(driver_->Pass().exposure_pages, 512);
  driver_->MapRun(1, 512, 8192, 512);
  const PassResult pass = driver_->Pass();
  EXPECT_EQ(pass.Breaks(), 0U);
  EXPECT_EQ(pass.unshared, (std::map<UnshareCause, uint64_t>{{UnshareCause::kCollapse, 512}}));
  ExpectStable(0);
}

// Pages of the large folio were dropped, or copied after another fork, so it no longer fills its window.
TEST_F(LedgerTest, CollapseOfWhichPartsAreGoneIsStillCollapse) {
  ShareSmallPages();
  driver_->MapRun(1, 512, 8192, 512);
  for (uint64_t i = 0; i < 512; ++i) driver_->MarkInFolio(8192 + i);
  driver_->Drop(1, 512 + 8);
  driver_->Drop(1, 512 + 9);
  driver_->Map(1, 512 + 9, 5000);  // after the collapse, as the other pages show
  const PassResult pass = driver_->Pass();
  EXPECT_EQ(pass.Breaks(), 0U);
  EXPECT_EQ(pass.unshared,
            (std::map<UnshareCause, uint64_t>{{UnshareCause::kCollapse, 511}, {UnshareCause::kUnmap, 1}}));
  ExpectStable(0);
}

// The child still has the huge page: the copy is of it and not of the page before the collapse.
TEST_F(LedgerTest, CopyOfAPageThatCollapsedCountsOnce) {
  ShareSmallPages();
  driver_->MapRun(1, 512, 8192, 512);
  for (uint64_t i = 0; i < 512; ++i) driver_->MarkInFolio(8192 + i);
  driver_->Fork(1, 2);
  driver_->Map(1, 512 + 9, 5000);
  driver_->MarkExclusive(5000, true);
  const PassResult pass = driver_->Pass();
  EXPECT_EQ(pass.breaks, (std::map<Slot, uint64_t>{{1, 1}}));
  EXPECT_EQ(pass.unshared, (std::map<UnshareCause, uint64_t>{{UnshareCause::kCollapse, 512}}));
  EXPECT_EQ(pass.exposure_pages, 511);
  ExpectStable(511);
}

// A frame with its page's place in a huge page may be in a smaller folio, which says nothing about other pages.
TEST_F(LedgerTest, LargeFolioThatIsNoHugePageTellsOfItsPagesOnly) {
  ShareSmallPages();
  driver_->MapRun(1, 512 + 16, 8192 + 16, 16);
  for (uint64_t i = 16; i < 32; ++i) driver_->MarkInFolio(8192 + i);
  driver_->Map(1, 512 + 9, 5000);
  driver_->MarkExclusive(5000, true);
  const PassResult pass = driver_->Pass();
  EXPECT_EQ(pass.breaks, (std::map<Slot, uint64_t>{{1, 1}}));
  EXPECT_EQ(pass.unshared, (std::map<UnshareCause, uint64_t>{{UnshareCause::kCollapse, 16}}));
}

TEST_F(LedgerTest, CopiesThatFollowEachOtherAreNoCollapse) {
  driver_->Add(0);
  driver_->Add(1, 0);
  for (const Slot slot : {0U, 1U}) driver_->MapRun(slot, 512, 1000, 512);
  driver_->Pass();
  driver_->MapRun(1, 512, 8192, 511);
  for (uint64_t i = 0; i < 511; ++i) driver_->MarkExclusive(8192 + i, true);
  EXPECT_EQ(driver_->Pass().breaks, (std::map<Slot, uint64_t>{{1, 511}}));
}

TEST_F(LedgerTest, MigrationOfASharedHugePageIsNoCollapse) {
  driver_->Add(0);
  driver_->Add(1, 0);
  for (const Slot slot : {0U, 1U}) driver_->MapRun(slot, 512, 4096, 512);
  driver_->Pass();
  for (const Slot slot : {0U, 1U}) driver_->MapRun(slot, 512, 8192, 512);
  ExpectStable(512);
}

TEST_F(LedgerTest, HugePageWhoseBit56ClaimsPrivateIsSharedByItsFrames) {
  for (const Slot slot : {0U, 1U}) {
    driver_->Add(slot);
    for (uint64_t i = 0; i < 512; ++i) {
      driver_->MapEntry(slot, 512 + i, procfs::kPagemapPresent | procfs::kPagemapMappedOnce | (4096 + i));
    }
  }
  const PassResult pass = driver_->Pass();
  EXPECT_EQ(pass.exposure_pages, 512);
  EXPECT_EQ(pass.verdicts, Words{});
  EXPECT_FALSE(pass.witnesses.empty());
}

TEST_F(LedgerTest, FourKilobytesOfASharedHugePageBreak) {
  driver_->Add(0);
  driver_->Add(1, 0);
  for (const Slot slot : {0U, 1U}) driver_->MapRun(slot, 512, 4096, 512);
  driver_->Pass();
  driver_->Map(0, 600, 99);
  const PassResult pass = driver_->Pass();
  EXPECT_EQ(pass.verdicts, Words{"0 broke 600, kept by 1"});
  EXPECT_EQ(pass.exposure_pages, 511);
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
  EXPECT_TRUE(driver_->ledger.IsDeparting(1));
  driver_->unstable.clear();
  EXPECT_EQ(driver_->Pass().verdicts, Words{"0 broke 5, kept by 1"});
  EXPECT_FALSE(driver_->ledger.IsDeparting(1));
}

TEST_F(LedgerTest, MovedPageKeepsItsExposure) {
  Share();
  driver_->Move(1, kPage, kFar);
  for (int i = 0; i < 3; ++i) {
    const PassResult pass = driver_->Pass();
    EXPECT_EQ(pass.verdicts, Words{});
    EXPECT_EQ(pass.exposure_pages, 1);
    EXPECT_EQ(pass.shared_pages, 2);
    EXPECT_EQ(pass.unmatched_pages, 0U);
  }
  EXPECT_FALSE(driver_->ledger.empty());
}

TEST_F(LedgerTest, BreakOfAMovedPageCounts) {
  Share();
  driver_->Move(1, kPage, kFar);
  driver_->Pass();
  driver_->Map(1, kFar, 200);
  EXPECT_EQ(driver_->Pass().verdicts, Words{"1 broke 5000, kept by 0"});
  ExpectStable(0);
  EXPECT_TRUE(driver_->ledger.empty());
}

TEST_F(LedgerTest, BreakByThePartnerOfAMovedPageCounts) {
  Share();
  driver_->Move(1, kPage, kFar);
  driver_->Pass();
  driver_->Map(0, kPage, 200);
  EXPECT_EQ(driver_->Pass().verdicts, Words{"0 broke 5, kept by 1"});
  ExpectStable(0);
}

TEST_F(LedgerTest, ExitOfTheMoverUnshares) {
  Share();
  driver_->Move(1, kPage, kFar);
  driver_->Pass();
  driver_->Exit(1);
  EXPECT_EQ(driver_->Pass().verdicts, Words{"0 left alone by exit at 5"});
  ExpectStable(0);
  EXPECT_TRUE(driver_->ledger.empty());
}

TEST_F(LedgerTest, UnmapOfAMovedPageUnshares) {
  Share();
  driver_->Move(1, kPage, kFar);
  driver_->Pass();
  driver_->Drop(1, kFar);
  EXPECT_EQ(driver_->Pass().verdicts, Words{"0 left alone by unmap at 5"});
}

TEST_F(LedgerTest, MovedPageMovesAgain) {
  Share();
  driver_->Move(1, kPage, kFar);
  driver_->Pass();
  driver_->Move(1, kFar, 2 * kFar);
  ExpectStable(1);
  driver_->Move(1, 2 * kFar, kPage);
  ExpectStable(1);
  driver_->Map(1, kPage, 200);
  EXPECT_EQ(driver_->Pass().breaks, (std::map<Slot, uint64_t>{{1, 1}}));
}

TEST_F(LedgerTest, MovedInOneOfThree) {
  Share(3);
  driver_->Move(2, kPage, kFar);
  for (int i = 0; i < 2; ++i) {
    const PassResult pass = driver_->Pass();
    EXPECT_EQ(pass.verdicts, Words{});
    EXPECT_EQ(pass.exposure_pages, 2);
    EXPECT_EQ(pass.shared_pages, 3);
    EXPECT_EQ(pass.unmatched_pages, 0U);
  }
  driver_->Map(2, kFar, 200);
  EXPECT_EQ(driver_->Pass().breaks, (std::map<Slot, uint64_t>{{2, 1}}));
  ExpectStable(1);
  driver_->Map(0, kPage, 201);
  EXPECT_EQ(driver_->Pass().breaks, (std::map<Slot, uint64_t>{{0, 1}}));
}

TEST_F(LedgerTest, ChildOfAMoverJoinsItsMovedPage) {
  Share();
  driver_->Move(1, kPage, kFar);
  driver_->Pass();
  driver_->Fork(1, 2);
  const PassResult pass = driver_->Pass();
  EXPECT_EQ(pass.verdicts, Words{});
  EXPECT_EQ(pass.exposure_pages, 2);
  EXPECT_EQ(pass.shared_pages, 3);
  driver_->Map(2, kFar, 200);
  EXPECT_EQ(driver_->Pass().breaks, (std::map<Slot, uint64_t>{{2, 1}}));
}

TEST_F(LedgerTest, FreshPageInTheHoleOfAMovedOneIsNoBreak) {
  Share(3);
  driver_->Move(2, kPage, kFar);
  driver_->Pass();
  driver_->Map(2, kPage, 300);
  ExpectStable(2);
}

TEST_F(LedgerTest, SharedWithAnUnseenProcess) {
  Share();
  driver_->Map(0, kPage + 1, 300);
  driver_->unseen_mappers[300] = 1;
  const PassResult pass = driver_->Pass();
  EXPECT_EQ(pass.verdicts, Words{});
  EXPECT_EQ(pass.unmatched_pages, 1U);
  EXPECT_EQ(pass.exposure_pages, 1);
  driver_->unseen_mappers.clear();
  EXPECT_EQ(driver_->Pass().unmatched_pages, 0U);
}

TEST_F(LedgerTest, FolioThatOnlyMayBeSharedIsPrivate) {
  // A tail page of a large folio: bit 56 is clear although the page is mapped once.
  driver_->Add(0);
  driver_->Map(0, kPage, 300);
  const uint64_t entry = procfs::kPagemapPresent | 300;
  const Reading reading{0, nullptr, false, Verdict::kNobody, true};
  std::vector<uint64_t> entries(512, 0);
  entries[kPage] = entry;
  std::vector<Reading> readings{reading};
  readings[0].entries = entries.data();
  Comparison comparison;
  Judgement judgement;
  WindowSharing sharing;
  FrameFacts facts;
  driver_->ledger.BeginPass();
  driver_->ledger.Compare(0, readings, {}, comparison);
  driver_->ledger.Commit(0, readings, facts, comparison, judgement, sharing);
  std::vector<uint64_t> frames;
  driver_->ledger.FindFramesToMatch(true, frames).MakeAll();
  ASSERT_EQ(frames, std::vector<uint64_t>{300});
  facts.Assign({300}, {procfs::kFrameAnon}, {1});
  MovedSharing moved;
  driver_->ledger.FinishPass(facts, judgement, moved).MakeAll();
  EXPECT_EQ(moved.unmatched_pages, 0U);
  EXPECT_EQ(moved.shared_pages, 0);
  EXPECT_TRUE(judgement.verdicts.empty());
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
  EXPECT_TRUE(driver_->ledger.IsDeparting(1));
  driver_->Pass();
  EXPECT_FALSE(driver_->ledger.IsDeparting(1));
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

class LedgerWithoutFramesTest : public LedgerTest {
 protected:
  LedgerWithoutFramesTest() { driver_ = std::make_unique<LedgerDriver>(512, 0); }
};

TEST_F(LedgerWithoutFramesTest, RecordsTakeLessMemory) {
  Share(3);
  EXPECT_LT(driver_->ledger.MemoryBytes(), 512 * sizeof(uint64_t));
  EXPECT_EQ(driver_->ledger.MemoryBytes(), driver_->budget.used_bytes);
  ExpectStable(2);
}

TEST_F(LedgerWithoutFramesTest, FrameThatTwoHaveInCommonTellsTheBreaker) {
  Share(3);
  driver_->Map(1, kPage, 200);
  EXPECT_EQ(driver_->Pass().verdicts, Words{"1 broke 5, kept by 0 2"});
  ExpectStable(1);
}

TEST_F(LedgerWithoutFramesTest, MarksTellTheBreakerOfAPair) {
  Share();
  driver_->Map(1, kPage, 200);
  driver_->MarkExclusive(100, false);
  driver_->MarkExclusive(200, true);
  EXPECT_EQ(driver_->Pass().verdicts, Words{"1 broke 5, kept by 0"});
  ExpectStable(0);
}

// The member's later fork cleared the mark of its copy.
TEST_F(LedgerWithoutFramesTest, CopyOfAMemberThatForkedSinceIsNotTakenForTheOriginal) {
  Share();
  driver_->Map(0, kPage, 200);
  driver_->MarkExclusive(200, false);
  driver_->MarkExclusive(100, true);
  driver_->At(0).idle = false;
  const PassResult pass = driver_->Pass();
  EXPECT_EQ(pass.unknown_breaks, 1U);
  EXPECT_EQ(pass.verdicts.size(), 1U);
  ExpectStable(0);
}

TEST_F(LedgerWithoutFramesTest, BreakOfAPairWithoutMarksIsOfUnknownSide) {
  Share();
  driver_->Map(1, kPage, 200);
  const PassResult pass = driver_->Pass();
  EXPECT_EQ(pass.unknown_breaks, 1U);
  EXPECT_EQ(pass.verdicts.size(), 1U);
  ExpectStable(0);
}

TEST_F(LedgerWithoutFramesTest, MarksTellMovedPages) {
  Share();
  driver_->MarkExclusive(100, false);
  driver_->Move(1, kPage, kFar);
  ExpectStable(1);
  driver_->Map(1, kFar, 200);
  EXPECT_EQ(driver_->Pass().Breaks(), 1U);
}

TEST_F(LedgerWithoutFramesTest, ExitIsNoBreak) {
  Share();
  driver_->Exit(1);
  const PassResult pass = driver_->Pass();
  EXPECT_EQ(pass.Breaks(), 0U);
  EXPECT_EQ(pass.unshared.size(), 1U);
  EXPECT_EQ(driver_->budget.used_bytes, 0U);
}

TEST_F(LedgerWithoutFramesTest, UnmapIsNoBreak) {
  Share();
  driver_->Drop(1, kPage);
  const PassResult pass = driver_->Pass();
  EXPECT_EQ(pass.Breaks(), 0U);
  EXPECT_EQ(pass.unshared.size(), 1U);
}

class LedgerWithoutFramesOfHugePagesTest : public LedgerWithoutFramesTest {
 protected:
  static constexpr uint64_t kHuge = 512;  // first page of a window
  // Two members share a huge page, as an earlier pass saw.
  void ShareHuge(uint64_t frame) {
    driver_->Add(0);
    driver_->Add(1, 0);
    for (const Slot slot : {0U, 1U}) driver_->MapRun(slot, kHuge, frame, 512);
    ASSERT_EQ(driver_->Pass().exposure_pages, 512);
  }
};

TEST_F(LedgerWithoutFramesOfHugePagesTest, EitherHugePageMayBeTheCollapsedOne) {
  ShareHuge(4096);
  driver_->MapRun(1, kHuge, 8192, 512);
  const PassResult pass = driver_->Pass();
  EXPECT_EQ(pass.Breaks(), 0U);
  EXPECT_EQ(pass.unshared, (std::map<UnshareCause, uint64_t>{{UnshareCause::kCollapse, 512}}));
  ExpectStable(0);
}

TEST_F(LedgerWithoutFramesOfHugePagesTest, MarksTellTheCollapsedOne) {
  ShareHuge(4096);
  driver_->MapRun(1, kHuge, 8192, 512);
  for (uint64_t i = 0; i < 512; ++i) {
    driver_->MarkExclusive(4096 + i, false);
    driver_->MarkExclusive(8192 + i, true);
  }
  const PassResult pass = driver_->Pass();
  EXPECT_EQ(pass.Breaks(), 0U);
  EXPECT_EQ(pass.unshared, (std::map<UnshareCause, uint64_t>{{UnshareCause::kCollapse, 512}}));
  EXPECT_EQ(pass.verdicts.front().substr(0, 2), "1 ");
}

TEST_F(LedgerWithoutFramesOfHugePagesTest, ExitLeavesAHugePageAlone) {
  ShareHuge(4096);
  driver_->Exit(1);
  const PassResult pass = driver_->Pass();
  EXPECT_EQ(pass.Breaks(), 0U);
  EXPECT_EQ(pass.unshared, (std::map<UnshareCause, uint64_t>{{UnshareCause::kExit, 512}}));
  ExpectStable(0);
}

TEST_F(LedgerWithoutFramesOfHugePagesTest, HugePageBesideACopyIsNoCollapseForCertain) {
  ShareHuge(4096);
  for (uint64_t i = 0; i < 512; ++i) driver_->Map(1, kHuge + i, 9000 + 2 * i);
  const PassResult pass = driver_->Pass();
  EXPECT_EQ(pass.Breaks(), 0U);
  EXPECT_EQ(pass.unshared, (std::map<UnshareCause, uint64_t>{{UnshareCause::kUnknown, 512}}));
}

// Sharing between two members ends once, even if both collapse.
TEST_F(LedgerTest, BothCollapseUnsharesOnce) {
  driver_->Add(0);
  driver_->Add(1, 0);
  for (const Slot slot : {0U, 1U}) driver_->MapRun(slot, 512, 1000, 512);
  EXPECT_EQ(driver_->Pass().exposure_pages, 512);
  driver_->MapRun(0, 512, 4096, 512);
  driver_->MapRun(1, 512, 8192, 512);
  const PassResult pass = driver_->Pass();
  EXPECT_EQ(pass.Breaks(), 0U);
  EXPECT_EQ(pass.unshared, (std::map<UnshareCause, uint64_t>{{UnshareCause::kCollapse, 512}}));
}

TEST_F(LedgerTest, BudgetIsSharedAndGivenBack) {
  LedgerBudget budget;
  {
    Ledger ledger(512, kTestZeroFrame, &budget);
    std::vector<uint64_t> entries(512, 0);
    entries[kPage] = procfs::kPagemapPresent | 100;
    const std::vector<Reading> readings{{0, entries.data(), false, Verdict::kNobody, true},
                                        {1, entries.data(), false, Verdict::kNobody, false}};
    Comparison comparison;
    Judgement judgement;
    WindowSharing sharing;
    ledger.BeginPass();
    for (const uint64_t window : {uint64_t{0}, uint64_t{1}}) {
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
