// Pages that KSM merged, or may have merged, and kernels whose words are unreliable.
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "tests/unit/memory/ledger/ledger_fixture.h"

namespace cow::memory {
namespace {

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

}  // namespace
}  // namespace cow::memory
