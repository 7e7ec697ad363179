#include "exporter/explain/look_budget.h"

#include <gtest/gtest.h>

#include <chrono>

namespace cow::exporter {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;

class LookBudgetTest : public testing::Test {
 protected:
  nanoseconds WaitAt(nanoseconds since_start) { return budget_.Wait(start_ + since_start); }

  LookBudget::Time start_ = LookBudget::Time(seconds(1000));
  LookBudget budget_{start_};
};

TEST_F(LookBudgetTest, UnusedBudgetAllowsLooksAtOnce) {
  for (int look = 0; look < 9; ++look) {
    EXPECT_EQ(WaitAt(seconds(0)), nanoseconds(0)) << look;
    budget_.Spend(milliseconds(110));
  }
  EXPECT_EQ(WaitAt(seconds(0)), nanoseconds(0)) << "a little is left";
  budget_.Spend(milliseconds(110));
  EXPECT_GT(WaitAt(seconds(0)), nanoseconds(0));
}

TEST_F(LookBudgetTest, ALongLookDelaysTheNext) {
  EXPECT_EQ(WaitAt(seconds(0)), nanoseconds(0));
  budget_.Spend(seconds(3));
  EXPECT_NEAR(std::chrono::duration<double>(WaitAt(seconds(0))).count(), 40, 0.001);
  EXPECT_NEAR(std::chrono::duration<double>(WaitAt(seconds(30))).count(), 10, 0.001);
  EXPECT_EQ(WaitAt(seconds(41)), nanoseconds(0));
}

TEST_F(LookBudgetTest, EndlessRequestsStayWithinTheShare) {
  nanoseconds spent{0};
  for (int i = 0; i < 100000; ++i) {
    if (WaitAt(milliseconds(i)).count() > 0) continue;
    budget_.Spend(milliseconds(5));
    spent += milliseconds(5);
  }
  // A twentieth of 100 seconds, plus the initial budget.
  EXPECT_NEAR(std::chrono::duration<double>(spent).count(), 6, 0.02);
}

TEST_F(LookBudgetTest, AtMostOneSecondIsSaved) {
  EXPECT_EQ(WaitAt(std::chrono::hours(1)), nanoseconds(0));
  budget_.Spend(milliseconds(1001));
  EXPECT_GT(WaitAt(std::chrono::hours(1)), nanoseconds(0));
}

}  // namespace
}  // namespace cow::exporter
