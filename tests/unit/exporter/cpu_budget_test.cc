#include "exporter/cpu_budget.h"

#include <gtest/gtest.h>

#include <chrono>

namespace cow::exporter {
namespace {

using std::chrono::nanoseconds;

TEST(CpuBudgetTest, WhatIsLeftIsNotSaved) {
  CpuBudget budget(nanoseconds{100}, nanoseconds{0});
  EXPECT_TRUE(budget.Limited());
  EXPECT_EQ(budget.Remaining(nanoseconds{30}), nanoseconds{70});
  budget.Open(1, nanoseconds{30});
  EXPECT_EQ(budget.Remaining(nanoseconds{30}), nanoseconds{100});
  budget.Open(5, nanoseconds{30});
  EXPECT_EQ(budget.Remaining(nanoseconds{30}), nanoseconds{100});
}

TEST(CpuBudgetTest, WhatWasTakenTooMuchIsPaidBack) {
  CpuBudget budget(nanoseconds{100}, nanoseconds{0});
  budget.Open(1, nanoseconds{250});
  EXPECT_EQ(budget.Remaining(nanoseconds{250}), nanoseconds{-50});
  budget.Open(1, nanoseconds{250});
  EXPECT_EQ(budget.Remaining(nanoseconds{250}), nanoseconds{50});
  budget.Open(1, nanoseconds{250});
  EXPECT_EQ(budget.Remaining(nanoseconds{250}), nanoseconds{100});
}

TEST(CpuBudgetTest, ZeroIsNoLimit) { EXPECT_FALSE(CpuBudget(nanoseconds{0}, nanoseconds{0}).Limited()); }

}  // namespace
}  // namespace cow::exporter
