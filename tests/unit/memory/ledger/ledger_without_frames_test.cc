// Records whose frames were dropped for the memory budget.
#include <gtest/gtest.h>

#include <map>
#include <memory>

#include "tests/unit/memory/ledger/ledger_fixture.h"

namespace cow::memory {
namespace {

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

}  // namespace
}  // namespace cow::memory
