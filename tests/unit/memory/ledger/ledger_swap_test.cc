// Pages that are swapped out or migrating in some members.
#include <gtest/gtest.h>

#include <map>

#include "collectors/procfs/pagemap.h"
#include "tests/unit/memory/ledger/ledger_fixture.h"

namespace cow::memory {
namespace {

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

TEST_F(LedgerTest, HolderOfTheOldPageAfterSwapIsUnknownWithoutMarks) {
  Share();
  driver_->swapped_in = true;
  driver_->Map(0, kPage, 200);
  driver_->MarkExclusive(100, true);
  driver_->MarkExclusive(200, true);
  EXPECT_EQ(driver_->Pass().verdicts, Words{"unknown broke 5"});
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
  EXPECT_FALSE(driver_->ledger.IsDeparting(MemberIndex(1)));
}

}  // namespace
}  // namespace cow::memory
