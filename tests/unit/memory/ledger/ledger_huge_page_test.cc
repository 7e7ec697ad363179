// Huge pages: collapse, copies of parts, hugetlb.
#include <gtest/gtest.h>

#include <map>

#include "collectors/procfs/pagemap.h"
#include "tests/unit/memory/ledger/ledger_fixture.h"

namespace cow::memory {
namespace {

// Copy-on-write copies a hugetlb page as a whole, and khugepaged ignores it.
TEST_F(LedgerTest, CopyOfAHugetlbPageIsABreak) {
  for (const Slot slot : {0U, 1U}) {
    driver_->Add(slot, slot == 0 ? kNobody : 0).hugetlb = true;
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

}  // namespace
}  // namespace cow::memory
