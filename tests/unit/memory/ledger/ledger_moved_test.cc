// Pages that members share at different addresses, and pages shared outside the family.
#include <gtest/gtest.h>

#include <map>
#include <vector>

#include "collectors/procfs/pagemap.h"
#include "tests/unit/memory/ledger/ledger_fixture.h"

namespace cow::memory {
namespace {

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
  const PageEntry entry(procfs::kPagemapPresent | 300);
  const Reading reading{MemberIndex(0), nullptr, false, MemberIndex::None(), true};
  std::vector<PageEntry> entries(512);
  entries[kPage] = entry;
  std::vector<Reading> readings{reading};
  readings[0].entries = entries.data();
  Comparison comparison;
  Judgement judgement;
  WindowSharing sharing;
  FrameFacts facts;
  driver_->ledger.BeginPass();
  driver_->ledger.Compare(WindowIndex(0), readings, {}, comparison);
  driver_->ledger.Commit(WindowIndex(0), readings, facts, comparison, judgement, sharing);
  std::vector<Pfn> frames;
  driver_->ledger.FindFramesToMatch(true, frames).MakeAll();
  ASSERT_EQ(frames, std::vector<Pfn>{Pfn(300)});
  facts.Assign({Pfn(300)}, {procfs::kFrameAnon}, {1});
  MovedSharing moved;
  driver_->ledger.FinishPass(facts, judgement, moved).MakeAll();
  EXPECT_EQ(moved.unmatched_pages, 0U);
  EXPECT_EQ(moved.shared_pages, 0);
  EXPECT_TRUE(judgement.verdicts.empty());
}

}  // namespace
}  // namespace cow::memory
