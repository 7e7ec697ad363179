#include "collectors/memory/ledger/window_records.h"

#include <gtest/gtest.h>

#include <array>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace cow::memory {
namespace {

constexpr size_t kPages = 512;
constexpr size_t kMembers = 33;
constexpr uint64_t kBitmapBytes = kPages / 8;
constexpr uint64_t kSlotBitmapBytes = 8;  // up to 64 slots

// `members` members share all pages.
WindowRecord Shared(uint64_t frame, uint64_t distance, size_t members = kMembers) {
  WindowRecord record(kPages);
  for (size_t page = 0; page < kPages; ++page) record.frames.emplace_back(frame + distance * page);
  for (MemberIndex slot; slot.number() < members; ++slot) {
    for (size_t page = 0; page < kPages; ++page) record.Held(slot).Set(page);
  }
  return record;
}

std::vector<std::string> Describe(const WindowRecord& record) {
  std::vector<std::string> lines;
  for (size_t page = 0; page < record.frames.size(); ++page) {
    std::string line = std::to_string(record.frames[page].number());
    for (MemberIndex slot; slot < record.SlotsEnd(); ++slot) {
      if (record.Held(slot).Test(page)) line.append(" ").append(std::to_string(slot.number()));
    }
    lines.push_back(line);
  }
  for (const auto& extra : record.extras) {
    std::string line = std::to_string(extra.page);
    line.append(" extra ").append(std::to_string(extra.frame.number()));
    for (const MemberIndex slot : extra.holders) line.append(" ").append(std::to_string(slot.number()));
    lines.push_back(line);
  }
  for (const auto& away : record.away) {
    std::string line = std::to_string(away.page);
    line.append(" away ")
        .append(std::to_string(away.frame.number()))
        .append(" ")
        .append(std::to_string(away.slot.number()));
    lines.push_back(line + (away.missed ? " missed" : ""));
  }
  return lines;
}

class WindowRecordsTest : public testing::Test {
 protected:
  uint64_t BytesOf(const WindowRecord& record) {
    records_.Put(WindowIndex(1), record);
    EXPECT_EQ(Describe(records_.Find(WindowIndex(1))->Open()), Describe(record));
    return records_.MemoryBytes() - WindowRecords::kWindowBytes;
  }

  LedgerBudget budget_;
  WindowRecords records_ = WindowRecords(kPages, &budget_);
};

TEST_F(WindowRecordsTest, WindowTakesATreeNode) { EXPECT_LE(WindowRecords::kWindowBytes, 160U); }

TEST_F(WindowRecordsTest, FullySharedWindowTakesFourBytesAPage) {
  EXPECT_EQ(BytesOf(Shared(1000, 3)), 4 * kPages + kSlotBitmapBytes);
}

TEST_F(WindowRecordsTest, FullySharedHugePageTakesAFewBytes) {
  EXPECT_EQ(BytesOf(Shared(1024, 1)), 8 + kSlotBitmapBytes);
}

TEST_F(WindowRecordsTest, FramesBeyondSixteenTebibytesTakeEightBytes) {
  EXPECT_EQ(BytesOf(Shared(uint64_t{1} << 33U, 3)), 8 * kPages + kSlotBitmapBytes);
}

TEST_F(WindowRecordsTest, MemberThatBrokeSomeHasABitmapOfItsOwn) {
  WindowRecord record = Shared(1000, 3);
  record.Held(MemberIndex(7)).Clear(100);
  EXPECT_EQ(BytesOf(record), 4 * kPages + kSlotBitmapBytes + kBitmapBytes + sizeof(MemberIndex));
}

TEST_F(WindowRecordsTest, MemberThatHoldsNothingTakesNothing) {
  WindowRecord record = Shared(1000, 3);
  const auto held = record.Held(MemberIndex(32));
  for (uint64_t& word : held.words()) word = 0;
  EXPECT_EQ(BytesOf(record), 4 * kPages + kSlotBitmapBytes);
}

TEST_F(WindowRecordsTest, UnsharedPagesTakeNothing) {
  WindowRecord record = Shared(1000, 3);
  for (size_t page = 10; page < kPages; ++page) record.TakePage(page);
  EXPECT_EQ(BytesOf(record), uint64_t{4} * 10 + kBitmapBytes + kSlotBitmapBytes);
}

// The worst case for the bitmaps: each member holds other pages.
TEST_F(WindowRecordsTest, BitmapsTakeOneBitAMemberAndPage) {
  WindowRecord record = Shared(1000, 3);
  for (MemberIndex slot; slot.number() < kMembers; ++slot) record.Held(slot).Clear(slot.number());
  EXPECT_EQ(BytesOf(record), 4 * kPages + kMembers * (kBitmapBytes + sizeof(MemberIndex)));
}

TEST_F(WindowRecordsTest, FurtherGroupsAndAbsentHoldersAreKept) {
  WindowRecord record = Shared(1000, 3, 2);
  record.extras.push_back({5, Pfn(77), {MemberIndex(2), MemberIndex(3)}});
  record.away.push_back({6, Pfn(78), MemberIndex(4), false});
  record.away.push_back({7, Pfn(uint64_t{1} << 40U), MemberIndex(5), true});
  BytesOf(record);
  for (size_t slot = 0; slot < 6; ++slot)
    EXPECT_TRUE(records_.Find(WindowIndex(1))->Concerns(MemberIndex(slot))) << slot;
  EXPECT_FALSE(records_.Find(WindowIndex(1))->Concerns(MemberIndex(6)));
}

TEST_F(WindowRecordsTest, OverTheLimitBitsAreKept) {
  budget_.limit_bytes = 300;
  records_.Put(WindowIndex(1), Shared(1000, 3));
  ASSERT_NE(records_.Find(WindowIndex(1)), nullptr);
  EXPECT_FALSE(records_.Find(WindowIndex(1))->has_frames());
  EXPECT_EQ(records_.MemoryBytes(), WindowRecords::kWindowBytes + kSlotBitmapBytes);
  const WindowRecord record = records_.Find(WindowIndex(1))->Open();
  EXPECT_TRUE(record.frames.empty());
  EXPECT_EQ(record.held, Shared(1000, 3).held);
}

TEST_F(WindowRecordsTest, RunsFitWhereSingleFramesDoNot) {
  budget_.limit_bytes = 300;
  records_.Put(WindowIndex(1), Shared(1024, 1));
  EXPECT_TRUE(records_.Find(WindowIndex(1))->has_frames());
}

TEST_F(WindowRecordsTest, RecordThatHoldsNothingIsForgotten) {
  records_.Put(WindowIndex(1), Shared(1000, 3));
  WindowRecord record(kPages);
  record.frames.assign(kPages, Pfn::None());
  records_.Put(WindowIndex(1), record);
  EXPECT_TRUE(records_.empty());
  EXPECT_EQ(records_.MemoryBytes(), 0U);
  EXPECT_EQ(budget_.used_bytes, 0U);
}

// 33 processes share 1 GiB.
TEST_F(WindowRecordsTest, FamilyOfOneGibibyteEach) {
  for (uint64_t window = 0; window < 512; ++window) records_.Put(WindowIndex(window), Shared(1000 + window, 1001));
  EXPECT_EQ(records_.MemoryBytes(), 512 * (WindowRecords::kWindowBytes + 4 * kPages + kSlotBitmapBytes));
  EXPECT_LT(records_.MemoryBytes(), 1200U << 10U);
  for (uint64_t window = 0; window < 512; ++window) records_.Put(WindowIndex(window), Shared(window * kPages, 1));
  EXPECT_LT(records_.MemoryBytes(), 100U << 10U);
}

TEST_F(WindowRecordsTest, BudgetIsKeptExactly) {
  std::mt19937_64 random(1);
  budget_.limit_bytes = 20000;
  {
    WindowRecords other(kPages, &budget_);
    for (int round = 0; round < 2000; ++round) {
      WindowRecords& records = round % 3 == 0 ? other : records_;
      WindowRecord record = Shared(1 + random() % (uint64_t{1} << 34U), random() % 3, random() % 40);
      for (uint64_t pages = random() % 600; pages > 0; --pages) record.TakePage(random() % kPages);
      for (MemberIndex slot; slot < record.SlotsEnd(); ++slot) {
        if (random() % 2 == 0) record.Held(slot).Clear(random() % kPages);
      }
      if (random() % 4 == 0)
        record.extras.push_back({1, Pfn(2), std::vector<MemberIndex>(1 + random() % 5, MemberIndex(1))});
      if (random() % 4 == 0) record.away.push_back({1, Pfn(2), MemberIndex(3), false});
      records.Put(WindowIndex(random() % 16), record);
      uint64_t bytes = 0;
      for (const WindowRecords* each : {&other, &records_}) {
        for (const auto& [window, packed] : each->all()) bytes += WindowRecords::kWindowBytes + packed.HeapBytes();
      }
      ASSERT_EQ(budget_.used_bytes, bytes) << "round " << round;
      ASSERT_EQ(other.MemoryBytes() + records_.MemoryBytes(), bytes) << "round " << round;
    }
  }
  EXPECT_EQ(budget_.used_bytes, records_.MemoryBytes());
  for (uint64_t window = 0; window < 16; ++window) records_.Put(WindowIndex(window), WindowRecord(kPages));
  EXPECT_EQ(budget_.used_bytes, 0U);
}

// Families that are scanned in parallel share the budget.
TEST(LedgerBudgetTest, IsKeptByAllThreads) {
  LedgerBudget budget;
  budget.limit_bytes = 50000;
  constexpr size_t kThreads = 4;
  constexpr uint64_t kWindows = 16;
  // Bits stay even over the limit.
  const uint64_t most = budget.limit_bytes + kThreads * kWindows * (WindowRecords::kWindowBytes + kSlotBitmapBytes);
  std::array<bool, kThreads> was_over{};
  {
    std::vector<std::jthread> threads;
    for (size_t thread = 0; thread < kThreads; ++thread) {
      threads.emplace_back([&budget, &over = was_over.at(thread), thread, most] {
        WindowRecords records(kPages, &budget);
        for (uint64_t round = 0; round < 300; ++round) {
          records.Put(WindowIndex(round % kWindows), Shared(1 + 1000 * round, round % 3 + thread % 2));
          over = over || budget.used_bytes > most;
        }
        for (uint64_t window = 0; window < kWindows; ++window) records.Put(WindowIndex(window), WindowRecord(kPages));
        EXPECT_TRUE(records.empty());
      });
    }
  }
  EXPECT_EQ(budget.used_bytes, 0U);
  EXPECT_EQ(was_over, (std::array<bool, kThreads>{}));
}

}  // namespace
}  // namespace cow::memory
