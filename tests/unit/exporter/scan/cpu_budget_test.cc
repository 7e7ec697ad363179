#include "exporter/scan/cpu_budget.h"

#include <gtest/gtest.h>

#include <chrono>

namespace cow::exporter {
namespace {

using std::chrono::nanoseconds;

TEST(CpuBudgetTest, UnusedBudgetIsNotSaved) {
  CpuBudget budget(nanoseconds{100}, nanoseconds{0});
  EXPECT_TRUE(budget.Limited());
  EXPECT_EQ(budget.Remaining(nanoseconds{30}), nanoseconds{70});
  budget.Open(1, nanoseconds{30});
  EXPECT_EQ(budget.Remaining(nanoseconds{30}), nanoseconds{100});
  budget.Open(5, nanoseconds{30});
  EXPECT_EQ(budget.Remaining(nanoseconds{30}), nanoseconds{100});
}

TEST(CpuBudgetTest, OverrunsAreDeducted) {
  CpuBudget budget(nanoseconds{100}, nanoseconds{0});
  budget.Open(1, nanoseconds{250});
  EXPECT_EQ(budget.Remaining(nanoseconds{250}), nanoseconds{-50});
  budget.Open(1, nanoseconds{250});
  EXPECT_EQ(budget.Remaining(nanoseconds{250}), nanoseconds{50});
  budget.Open(1, nanoseconds{250});
  EXPECT_EQ(budget.Remaining(nanoseconds{250}), nanoseconds{100});
}

TEST(CpuBudgetTest, AChangedShareKeepsUsedTime) {
  CpuBudget budget(nanoseconds{100}, nanoseconds{0});
  budget.Change(nanoseconds{300}, nanoseconds{80});
  EXPECT_EQ(budget.Remaining(nanoseconds{80}), nanoseconds{220});
  budget.Change(nanoseconds{50}, nanoseconds{80});
  EXPECT_EQ(budget.Remaining(nanoseconds{80}), nanoseconds{-30});
  budget.Change(nanoseconds{0}, nanoseconds{80});
  EXPECT_FALSE(budget.Limited());
  budget.Change(nanoseconds{40}, nanoseconds{90});
  EXPECT_EQ(budget.Remaining(nanoseconds{90}), nanoseconds{40});
}

TEST(CpuBudgetTest, ZeroSetsNoLimit) { EXPECT_FALSE(CpuBudget(nanoseconds{0}, nanoseconds{0}).Limited()); }

}  // namespace
}  // namespace cow::exporter
