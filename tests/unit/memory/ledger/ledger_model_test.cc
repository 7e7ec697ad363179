// Compares the ledger with a model that knows every physical page of a random fork tree.
#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "tests/unit/memory/ledger/ledger_model.h"

namespace cow::memory {
namespace {

unsigned Seed() {
  const char* given = std::getenv("COW_TEST_SEED");  // NOLINT(concurrency-mt-unsafe): one thread
  return given != nullptr ? static_cast<unsigned>(std::strtoul(given, nullptr, 10)) : std::random_device()();
}

// The parameter is the ledger's limit in bytes.
class LedgerModelTest : public testing::TestWithParam<uint64_t> {
 protected:
  uint64_t Below(uint64_t limit) { return std::uniform_int_distribution<uint64_t>(0, limit - 1)(random_); }

  unsigned seed_ = Seed();
  std::mt19937 random_{seed_};
  LedgerModel model_{GetParam(), [this](uint64_t limit) { return Below(limit); }};
};

TEST_P(LedgerModelTest, OneStepBetweenPassesIsExact) {
  uint64_t breaks = 0;
  for (int step = 0; step < 6000; ++step) {
    model_.ForgetCounts();
    const std::string what = model_.Step(false);
    const PassResult pass = model_.driver.Pass();
    SCOPED_TRACE("COW_TEST_SEED=" + std::to_string(seed_) + " step " + std::to_string(step) + ": " + what);
    ASSERT_EQ(pass.breaks, model_.breaks);
    ASSERT_EQ(pass.unknown_breaks, 0U);
    ASSERT_EQ(pass.unshared, model_.unshared);
    ASSERT_EQ(pass.exposure_pages, model_.Exposure());
    ASSERT_EQ(pass.shared_pages, model_.Shared());
    ASSERT_EQ(pass.unmatched_pages, 0U);
    ASSERT_EQ(pass.unresolved_pages, 0U);
    ASSERT_TRUE(pass.unattributed.empty());
    ASSERT_EQ(model_.driver.ledger.MemoryBytes(), model_.driver.budget.used_bytes);
    breaks += pass.Breaks();
  }
  EXPECT_GT(breaks, 1000U) << "seed " << seed_;
}

// Partners of moved pages are found by their recorded frames, so these must fit the limit.
class LedgerMoveModelTest : public LedgerModelTest {};

TEST_P(LedgerMoveModelTest, MovesKeepBreaksAndExposureExact) {
  for (int step = 0; step < 3000; ++step) {
    model_.ForgetCounts();
    const std::string what = model_.Step(true);
    const PassResult pass = model_.driver.Pass();
    SCOPED_TRACE("COW_TEST_SEED=" + std::to_string(seed_) + " step " + std::to_string(step) + ": " + what);
    ASSERT_EQ(pass.breaks, model_.breaks);
    ASSERT_EQ(pass.unknown_breaks, 0U);
    ASSERT_EQ(pass.unshared, model_.unshared);
    ASSERT_EQ(pass.exposure_pages, model_.Exposure());
    ASSERT_EQ(pass.shared_pages, model_.Shared());
    ASSERT_EQ(pass.unmatched_pages, 0U);
  }
}

TEST_P(LedgerModelTest, SeveralStepsBetweenPassesKeepExposureExact) {
  for (int round = 0; round < 1500; ++round) {
    std::string what;
    for (int step = 0; step < 6; ++step) what += model_.Step(false) + "; ";
    SCOPED_TRACE("COW_TEST_SEED=" + std::to_string(seed_) + " round " + std::to_string(round) + ": " + what);
    PassResult pass = model_.driver.Pass();
    ASSERT_EQ(pass.exposure_pages, model_.Exposure());
    ASSERT_EQ(pass.shared_pages, model_.Shared());
    pass = model_.driver.Pass();
    ASSERT_EQ(pass.verdicts, std::vector<std::string>{});
    ASSERT_EQ(pass.exposure_pages, model_.Exposure());
  }
}

INSTANTIATE_TEST_SUITE_P(Frames, LedgerModelTest, testing::Values(~uint64_t{0}));
INSTANTIATE_TEST_SUITE_P(Frames, LedgerMoveModelTest, testing::Values(~uint64_t{0}));
INSTANTIATE_TEST_SUITE_P(BitsOnly, LedgerModelTest, testing::Values(uint64_t{0}));
// Depending on the tree, the frames of one window fit the limit, or none do.
INSTANTIATE_TEST_SUITE_P(SomeFrames, LedgerModelTest, testing::Values(uint64_t{450}, uint64_t{600}));

}  // namespace
}  // namespace cow::memory
