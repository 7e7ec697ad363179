// Pages that members share at different addresses, and the memory of their records.
#include "collectors/memory/ledger/moved_pages.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <map>
#include <string>
#include <vector>

#include "tests/unit/memory/ledger/ledger_driver.h"

namespace cow::memory {
namespace {

using Words = std::vector<std::string>;

constexpr uint64_t kPage = 5;
constexpr uint64_t kFar = 5000;
constexpr size_t kWindow = 512;
constexpr int64_t kPagesShared = 8;

TEST(MovedBlockTest, HoldsWhatItWasMadeFrom) {
  std::vector<MovedPage> pages;
  for (uint64_t page = 600; page < 700; page += 3) {
    pages.push_back({PageNumber(page), Pfn(page * 7), MemberIndex(2), true});
    pages.push_back({PageNumber(page), Pfn(page * 7), MemberIndex(9), page % 2 == 0});
  }
  pages.push_back({PageNumber(609), Pfn(uint64_t{1} << 40U), MemberIndex(4), true});
  pages.push_back({PageNumber(900), Pfn(77), MemberIndex(4), false});
  const std::vector<MovedBlock> blocks = PackMovedPages(pages);
  EXPECT_EQ(blocks.size(), 3U) << "two frames at one address, and a gap";
  std::vector<MovedPage> packed;
  for (const MovedBlock& block : blocks) block.AddPages(packed);
  const auto text = [](std::vector<MovedPage>& list) {
    Words words;
    for (const MovedPage& each : list) {
      std::string word = std::to_string(each.page.number());
      word.append(" ")
          .append(std::to_string(each.frame.number()))
          .append(" ")
          .append(std::to_string(each.slot.number()));
      words.push_back(word + (each.here ? "" : " away"));
    }
    std::sort(words.begin(), words.end());
    return words;
  };
  EXPECT_EQ(text(packed), text(pages));
}

TEST(MovedBlockTest, FrameBeyondSixteenTebibytesTakesMoreBytes) {
  std::vector<MovedPage> pages;
  for (uint64_t page = 0; page < kWindow; ++page)
    pages.push_back({PageNumber(page), Pfn(1000 + page), MemberIndex(0), true});
  MovedBlock block(pages);
  const uint64_t bytes = block.MemoryBytes();
  block.SetFrame(3, Pfn(uint64_t{1} << 33U));
  EXPECT_EQ(block.FrameAt(3), Pfn(uint64_t{1} << 33U));
  EXPECT_EQ(block.FrameAt(4), Pfn(1004));
  EXPECT_EQ(block.MemoryBytes(), bytes + kWindow * sizeof(uint32_t));
}

TEST(MovedNotesTest, NotesOfAPassThatWasGivenUpTakeNoMemory) {
  LedgerBudget budget;
  MovedPages moved(kWindow, Pfn::None(), &budget);
  for (uint64_t page = 0; page < kWindow; ++page) {
    moved.AddUnmatched({Pfn(1000 + page), PageNumber(page), MemberIndex(0)});
    moved.AddBreakOrMove(Pfn(5000 + page), PageNumber(page), MemberIndex(1), std::array{MemberIndex(0)});
  }
  EXPECT_NE(budget.UsedFor(MemoryPurpose::kPending), 0U);
  moved.BeginPass({});
  EXPECT_EQ(budget.used_bytes, 0U);
  EXPECT_EQ(moved.MemoryBytes(), 0U);
}

class MovedPagesTest : public testing::Test {
 protected:
  // `members` members share `pages` pages with different frames, as an earlier pass saw.
  void Share(Slot members, uint64_t pages) {
    for (Slot slot = 0; slot < members; ++slot) {
      driver_.Add(slot, slot == 0 ? kNobody : 0);
      for (uint64_t page = 0; page < pages; ++page) driver_.Map(slot, page, FrameOfPage(page));
    }
    ASSERT_EQ(driver_.Pass().exposure_pages, static_cast<int64_t>((members - 1) * pages));
  }
  static uint64_t FrameOfPage(uint64_t page) { return 100'000 + page * 3; }
  void Move(Slot slot, uint64_t pages, uint64_t from, uint64_t to) {
    for (uint64_t page = 0; page < pages; ++page) driver_.Move(slot, from + page, to + page);
  }
  uint64_t MovedBytes() const { return driver_.budget.UsedFor(MemoryPurpose::kMoved); }
  void ExpectStable(int64_t exposure_pages) {
    const PassResult pass = driver_.Pass();
    EXPECT_EQ(pass.verdicts, Words{});
    EXPECT_EQ(pass.exposure_pages, exposure_pages);
    EXPECT_EQ(pass.unmatched_pages, 0U);
  }

  LedgerDriver driver_;
};

// 4 bytes at each of two addresses, and two bits per holder.
TEST_F(MovedPagesTest, MovedPageOfFortyOneTakesTwentyFourBytes) {
  constexpr Slot kMembers = 41;
  constexpr uint64_t kPages = 8 * kWindow;
  Share(kMembers, kPages);
  EXPECT_EQ(MovedBytes(), 0U);
  Move(0, kPages, 0, 100 * kWindow);
  for (int i = 0; i < 2; ++i) ExpectStable((kMembers - 1) * kPages);
  std::printf("%.1f bytes a moved page\n", static_cast<double>(MovedBytes()) / kPages);
  EXPECT_LE(MovedBytes(), 24 * kPages);
  EXPECT_EQ(driver_.budget.UsedFor(MemoryPurpose::kRecords), 0U);
  EXPECT_EQ(driver_.budget.UsedFor(MemoryPurpose::kPending), 0U);
  EXPECT_EQ(driver_.budget.used_bytes, driver_.ledger.MemoryBytes());
}

TEST_F(MovedPagesTest, MemoryIsGivenBackAsHoldersLeave) {
  constexpr Slot kMembers = 10;
  constexpr uint64_t kPages = 2 * kWindow;
  Share(kMembers, kPages);
  Move(0, kPages, 0, 100 * kWindow);
  driver_.Pass();
  const uint64_t bytes = MovedBytes();
  for (Slot slot = kMembers - 1; slot >= 4; --slot) {
    driver_.Exit(slot);
    EXPECT_EQ(driver_.Pass().verdicts, Words{});
  }
  EXPECT_LT(MovedBytes(), bytes);
  for (Slot slot = 3; slot >= 1; --slot) {
    driver_.Exit(slot);
    driver_.Pass();
  }
  EXPECT_TRUE(driver_.ledger.empty());
  EXPECT_EQ(driver_.budget.used_bytes, 0U);
}

TEST_F(MovedPagesTest, GroupsAtTwoAddressesHoldOneFrame) {
  for (const Slot slot : {0U, 1U}) {
    driver_.Add(slot, slot == 0 ? kNobody : 0);
    driver_.Map(slot, kPage, 100);
  }
  for (const Slot slot : {2U, 3U}) {
    driver_.Add(slot, 0);
    driver_.Map(slot, kFar, 100);
  }
  for (int i = 0; i < 3; ++i) {
    const PassResult pass = driver_.Pass();
    EXPECT_EQ(pass.verdicts, Words{});
    EXPECT_EQ(pass.exposure_pages, 3);
    EXPECT_EQ(pass.shared_pages, 4);
  }
  driver_.Map(2, kFar, 200);
  driver_.Map(3, kFar, 201);
  const PassResult pass = driver_.Pass();
  EXPECT_EQ(pass.breaks, (std::map<Slot, uint64_t>{{2, 1}, {3, 1}}));
  EXPECT_EQ(pass.exposure_pages, 1);
}

TEST_F(MovedPagesTest, GroupsAtThreeAddressesHoldOneFrame) {
  for (Slot slot = 0; slot < 6; ++slot) {
    driver_.Add(slot, slot == 0 ? kNobody : 0);
    driver_.Map(slot, kPage + slot / 2 * kFar, 100);
  }
  for (int i = 0; i < 2; ++i) ExpectStable(5);
  driver_.Exit(1);
  ExpectStable(4);
}

// Two windows with one frame may be two pages read at different times.
TEST_F(MovedPagesTest, GroupsAtTwoAddressesWaitForAPassOverAll) {
  for (Slot slot = 0; slot < 4; ++slot) {
    driver_.Add(slot, slot == 0 ? kNobody : 0);
    driver_.Map(slot, slot < 2 ? kPage : kFar, 100);
  }
  driver_.all_read = false;
  for (int i = 0; i < 2; ++i) {
    const PassResult pass = driver_.Pass();
    EXPECT_EQ(pass.exposure_pages, 2);
    EXPECT_TRUE(pass.must_read_all);
  }
  driver_.all_read = true;
  const PassResult pass = driver_.Pass();
  EXPECT_EQ(pass.exposure_pages, 3);
  EXPECT_FALSE(pass.must_read_all);
}

TEST_F(MovedPagesTest, ChildrenOfAMoverJoinItsPage) {
  Share(2, kWindow);
  Move(1, kWindow, 0, 10 * kWindow);
  ExpectStable(kWindow);
  driver_.Fork(1, 2);
  driver_.Fork(2, 3);
  for (int i = 0; i < 2; ++i) ExpectStable(3 * kWindow);
  EXPECT_EQ(driver_.budget.UsedFor(MemoryPurpose::kRecords), 0U);
}

TEST_F(MovedPagesTest, FreshPageInTheHoleIsNoBreak) {
  Share(3, kPagesShared);
  driver_.Move(2, kPage, kFar);
  driver_.Map(2, kPage, 300);
  driver_.At(2).remapped = true;
  ExpectStable(2 * kPagesShared);
  driver_.At(2).remapped = false;
  ExpectStable(2 * kPagesShared);
}

TEST_F(MovedPagesTest, BreakOfARemappedMemberCounts) {
  Share(3, kPagesShared);
  driver_.Map(2, kPage, 300);
  driver_.Map(1, kPage + 1, 301);
  for (Slot slot = 0; slot < 3; ++slot) driver_.At(slot).remapped = true;
  EXPECT_EQ(driver_.Pass().verdicts, (Words{"1 broke 6, kept by 0 2", "2 broke 5, kept by 0 1"}));
  // A process that is not a member maps it.
  driver_.Map(1, kPage, 302);
  driver_.unseen_mappers[FrameOfPage(kPage)] = 1;
  EXPECT_EQ(driver_.Pass().breaks, (std::map<Slot, uint64_t>{{1, 1}}));
}

TEST_F(MovedPagesTest, FreshPageInTheHoleOfOneThatMovedOnIsNoBreak) {
  Share(3, kPagesShared);
  driver_.Move(2, kPage, kFar);
  ExpectStable(2 * kPagesShared);
  driver_.Move(2, kFar, 2 * kFar);
  driver_.Map(2, kFar, 300);
  ExpectStable(2 * kPagesShared);
}

TEST_F(MovedPagesTest, CollapseOfAMovedPageIsNoBreak) {
  Share(3, kPagesShared);
  Move(2, 8, 0, kFar);
  ExpectStable(2 * kPagesShared);
  for (uint64_t page = 0; page < 8; ++page) {
    driver_.Map(2, kFar + page, 8192 + page);
    driver_.MarkInFolio(8192 + page);
  }
  const PassResult pass = driver_.Pass();
  EXPECT_EQ(pass.Breaks(), 0U);
  EXPECT_EQ(pass.unshared, (std::map<UnshareCause, uint64_t>{{UnshareCause::kCollapse, 8}}));
}

// The mover shares the page with its own child, so the page has a partner at its address.
TEST_F(MovedPagesTest, AnotherPageInTheHoleOfOneThatForkedIsNoBreak) {
  Share(3, kPagesShared);
  driver_.Move(2, kPage, kFar);
  driver_.Move(2, kPage + 1, kPage);
  driver_.At(2).remapped = true;
  driver_.Fork(2, 3);
  ExpectStable(3 * kPagesShared);
  driver_.At(2).remapped = false;
  driver_.At(2).first_look = driver_.At(3).first_look = false;
  // The page moves on, and another page takes its place.
  driver_.Move(2, kFar, 2 * kFar);
  driver_.Move(2, kPage, kFar);
  driver_.At(2).remapped = true;
  driver_.Fork(2, 4);
  ExpectStable(4 * kPagesShared);
}

TEST_F(MovedPagesTest, AnotherPageInTheHoleOfASecondGroupIsNoBreak) {
  for (Slot slot = 0; slot < 4; ++slot) {
    driver_.Add(slot, slot == 0 ? kNobody : 0);
    driver_.Map(slot, kPage, slot < 2 ? 100 : 200);
  }
  ASSERT_EQ(driver_.Pass().exposure_pages, 2);
  driver_.Move(3, kPage, kFar);
  driver_.Map(3, kPage, 300);
  driver_.At(3).remapped = true;
  ExpectStable(2);
}

// The shared frame was dropped, so the page cannot be found at other addresses.
TEST(MovedPagesOverTheLimitTest, PageThatMayHaveMovedIsUnattributed) {
  LedgerDriver driver(kWindow, 0);
  for (Slot slot = 0; slot < 3; ++slot) {
    driver.Add(slot, slot == 0 ? kNobody : 0);
    for (uint64_t page = 0; page < 8; ++page) driver.Map(slot, page, 1000 + page * 3);
  }
  ASSERT_EQ(driver.Pass().exposure_pages, 16);
  driver.Move(2, kPage, kFar);
  driver.Map(2, kPage, 300);
  driver.At(2).remapped = true;
  driver.Fork(2, 3);
  PassResult pass = driver.Pass();
  EXPECT_EQ(pass.Breaks(), 0U);
  EXPECT_EQ(pass.unattributed, (std::map<Slot, uint64_t>{{2, 1}}));
  driver.Map(1, kPage + 1, 301);  // by a member that moved nothing
  pass = driver.Pass();
  EXPECT_EQ(pass.breaks, (std::map<Slot, uint64_t>{{1, 1}}));
  // A known moved page moves on, to an address where the mover shares it with its child.
  driver.At(3).first_look = false;
  driver.Drop(3, kFar);
  driver.Pass();
  driver.Move(2, kFar, 2 * kFar);
  driver.Map(2, kFar, 302);
  driver.Fork(2, 4);
  pass = driver.Pass();
  EXPECT_EQ(pass.Breaks(), 0U);
}

TEST_F(MovedPagesTest, MovesThereAndBack) {
  Share(3, kWindow);
  for (int i = 0; i < 5; ++i) {
    Move(2, kWindow, 0, 10 * kWindow + 7);
    ExpectStable(2 * kWindow);
    Move(2, kWindow, 10 * kWindow + 7, 0);
    ExpectStable(2 * kWindow);
  }
}

// The parameter is the limit in bytes.
class MovedPagesLimitTest : public testing::TestWithParam<uint64_t> {};

INSTANTIATE_TEST_SUITE_P(Limits, MovedPagesLimitTest, testing::Values(0, 4096, 65536, ~uint64_t{0}));

TEST_P(MovedPagesLimitTest, CountsStayRightOrAreUnmatched) {
  constexpr Slot kMembers = 8;
  constexpr uint64_t kPages = 4 * kWindow;
  LedgerDriver driver(kWindow, GetParam());
  for (Slot slot = 0; slot < kMembers; ++slot) {
    driver.Add(slot, slot == 0 ? kNobody : 0);
    for (uint64_t page = 0; page < kPages; ++page) {
      driver.Map(slot, page, 100'000 + page * 3);
      driver.MarkExclusive(100'000 + page * 3, false);
    }
  }
  driver.Pass();
  for (uint64_t page = 0; page < kPages; ++page) driver.Move(0, page, 100 * kWindow + page);
  auto exposure = static_cast<int64_t>((kMembers - 1) * kPages);
  uint64_t fresh = 1'000'000;
  uint64_t bytes = 0;
  for (int round = 0; round < 20; ++round) {
    PassResult pass = driver.Pass();
    EXPECT_EQ(pass.verdicts, Words{}) << round;
    EXPECT_EQ(pass.exposure_pages + static_cast<int64_t>(pass.unmatched_pages), exposure) << round;
    if (round == 1) bytes = driver.budget.used_bytes;
    if (round >= 1) {
      EXPECT_LE(driver.budget.used_bytes, bytes + kMembers * kPages / 8) << round;
    }
    const auto breaker = 1 + static_cast<Slot>(round) % (kMembers - 1);
    for (auto page = static_cast<uint64_t>(round); page < kPages; page += 32) {
      driver.Map(breaker, page, ++fresh);
      driver.MarkExclusive(fresh, true);
      --exposure;
    }
    pass = driver.Pass();
    EXPECT_EQ(pass.breaks, (std::map<Slot, uint64_t>{{breaker, kPages / 32}})) << round;
    EXPECT_EQ(pass.exposure_pages + static_cast<int64_t>(pass.unmatched_pages), exposure) << round;
  }
  for (Slot slot = 1; slot < kMembers; ++slot) driver.Exit(slot);
  driver.Pass();
  driver.Pass();
  EXPECT_EQ(driver.budget.used_bytes, 0U);
  EXPECT_EQ(driver.budget.reduced_windows, 0U);
}

}  // namespace
}  // namespace cow::memory
