#include "collectors/engine/scan_turns.h"

#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <vector>

namespace cow::collectors {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

class ScanQueueTest : public testing::Test {
 protected:
  ScanQueueTest() {
    for (uint64_t id = 1; id <= 4; ++id)
      families_.push_back(std::make_unique<memory::Family>(id, 512, Pfn::None(), nullptr));
    std::vector<memory::Family*> waiting;
    for (const auto& family : families_) waiting.push_back(family.get());
    queue_.Fill(waiting);
  }

  std::vector<std::unique_ptr<memory::Family>> families_;
  ScanQueue queue_;
};

TEST_F(ScanQueueTest, EachGetsAnEqualShareOfWhatIsLeft) {
  const auto [first, turn] = queue_.Take(milliseconds(40));
  EXPECT_EQ(first, families_[0].get());
  EXPECT_EQ(turn, milliseconds(10));
  queue_.Return(first, true);
  // It needed little, so the others share the rest.
  EXPECT_EQ(queue_.Take(milliseconds(39)).second, milliseconds(13));
}

TEST_F(ScanQueueTest, WhoNeedsMoreWaitsBehindTheOthers) {
  const auto [large, turn] = queue_.Take(milliseconds(40));
  queue_.Return(large, false);
  for (size_t i = 1; i < families_.size(); ++i) {
    const auto next = queue_.Take(milliseconds(30));
    EXPECT_EQ(next.first, families_[i].get());
    queue_.Return(next.first, true);
  }
  EXPECT_EQ(queue_.Take(milliseconds(20)), (std::pair{large, ScanQueue::Nanoseconds(milliseconds(20))}));
  queue_.Return(large, true);
  EXPECT_EQ(queue_.Take(milliseconds(20)).first, nullptr);
}

TEST_F(ScanQueueTest, ThoseAtWorkHaveTheirShare) {
  EXPECT_EQ(queue_.Take(milliseconds(40)).second, milliseconds(10));
  EXPECT_EQ(queue_.Take(milliseconds(40)).second, milliseconds(10));
}

TEST_F(ScanQueueTest, ATurnIsWorthItsWhile) {
  EXPECT_EQ(queue_.Take(microseconds(8)).second, ScanQueue::kLeast);
  EXPECT_EQ(queue_.Take(milliseconds(-5)).second, ScanQueue::kLeast);
}

TEST_F(ScanQueueTest, WithoutLimitATurnHasNone) {
  EXPECT_EQ(queue_.Take(ScanQueue::kNoLimit).second, ScanQueue::kNoLimit);
}

}  // namespace
}  // namespace cow::collectors
