// Verdicts at the first look at a child, from marks and fork evidence.
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "tests/unit/memory/ledger/ledger_fixture.h"

namespace cow::memory {
namespace {

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
  EXPECT_EQ(pass.verdicts, Words{"1 broke 5, kept by 0"});
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
  EXPECT_EQ(driver_->Pass().verdicts, Words{"0 broke 5, kept by 1"});
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
  EXPECT_EQ(driver_->Pass().verdicts, (Words{"1 unattributed 5", "2 broke 5, kept by 1"}));
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

TEST_F(LedgerFirstLookTest, ChildsCopyNeedsAParentWithoutALaterFork) {
  Differ(false, true);
  driver_->At(1).forks = {true, false, true};
  ExpectUnattributed();
}

TEST_F(LedgerFirstLookTest, ParentsCopyNeedsAChildWithoutForks) {
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
  EXPECT_EQ(driver_->Pass().verdicts, Words{"0 broke 5, kept by 1"});
  StartAgain();
  Differ(false, true);
  driver_->At(1).forks = {true, true, false};
  EXPECT_EQ(driver_->Pass().verdicts, Words{"1 broke 5, kept by 0"});
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

}  // namespace
}  // namespace cow::memory
