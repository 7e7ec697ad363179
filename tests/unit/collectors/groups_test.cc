#include "collectors/groups.h"

#include <gtest/gtest.h>

#include <chrono>
#include <string>

namespace cow::collectors {
namespace {

using std::chrono::minutes;
using Time = std::chrono::steady_clock::time_point;

class GroupsTest : public testing::Test {
 protected:
  static constexpr Time At(int minute) { return Time(minutes(10000 + minute)); }

  // A pass in which these groups were found.
  template <class... Names>
  void Pass(int minute, const Names&... names) {
    groups_.BeginPass();
    (groups_.Find(names, At(minute)), ...);
    groups_.EndPass(At(minute), At(minute));
  }
  bool Exported(const std::string& name) const {
    const auto found = groups_.all().find(name);
    return found != groups_.all().end() && found->second.exported;
  }

  Groups groups_{2, 3};
};

TEST_F(GroupsTest, CountersBeginAtZeroAndStay) {
  auto& counters = groups_.Find("a", At(0))->second.counters;
  EXPECT_EQ(counters, (std::vector<uint64_t>{0, 0, 0}));
  counters[1] = 5;
  EXPECT_EQ(groups_.Find("a", At(1))->second.counters[1], 5U);
}

TEST_F(GroupsTest, GroupsBeyondTheLimitAreTheOverflow) {
  groups_.BeginPass();
  EXPECT_EQ(groups_.Find("a", At(0))->first, "a");
  EXPECT_EQ(groups_.Find("b", At(0))->first, "b");
  for (const char* name : {"c", "d", "c"}) EXPECT_EQ(groups_.Find(name, At(0))->first, Groups::kOverflow);
  EXPECT_EQ(groups_.Find("a", At(0))->first, "a");
  groups_.EndPass(At(0), At(0));
  EXPECT_EQ(groups_.overflowed(), 2U);
  EXPECT_EQ(groups_.all().size(), 3U);
  Pass(1, std::string("a"));
  EXPECT_EQ(groups_.overflowed(), 0U);
}

TEST_F(GroupsTest, OverflowTakesNoPlace) {
  Pass(0, std::string("_other"), std::string("a"), std::string("b"));
  EXPECT_TRUE(Exported("a"));
  EXPECT_TRUE(Exported("b"));
  EXPECT_EQ(groups_.overflowed(), 0U);
}

TEST_F(GroupsTest, EndedGroupIsExportedForFiveMinutes) {
  Pass(0, std::string("a"), std::string("b"));
  Pass(5, std::string("b"));
  EXPECT_TRUE(Exported("a"));
  Pass(6, std::string("b"));
  EXPECT_FALSE(Exported("a"));
  EXPECT_TRUE(Exported("b"));
}

TEST_F(GroupsTest, EndedGroupComesBackWithItsCounters) {
  Pass(0, std::string("a"));
  groups_.Find("a", At(0))->second.counters[2] = 9;
  Pass(10, std::string("b"));
  EXPECT_FALSE(Exported("a"));
  Pass(11, std::string("a"));
  EXPECT_TRUE(Exported("a"));
  EXPECT_EQ(groups_.all().at("a").counters[2], 9U);
}

TEST_F(GroupsTest, EndedGroupMakesPlace) {
  Pass(0, std::string("a"), std::string("b"));
  Pass(10, std::string("b"), std::string("c"));
  EXPECT_EQ(groups_.overflowed(), 1U);
  Pass(11, std::string("b"), std::string("c"));
  EXPECT_TRUE(Exported("c"));
  EXPECT_EQ(groups_.overflowed(), 0U);
  EXPECT_EQ(groups_.Find("a", At(11))->first, Groups::kOverflow);
}

TEST_F(GroupsTest, LongestEndedGroupsAreForgotten) {
  int minute = 0;
  for (const char* name : {"a", "b", "c", "d"}) {
    Pass(minute, std::string(name));
    minute += 10;
  }
  EXPECT_FALSE(groups_.all().contains("a"));
  EXPECT_TRUE(groups_.all().contains("b"));
  EXPECT_TRUE(groups_.all().contains("c"));
  EXPECT_TRUE(Exported("d"));
}

TEST_F(GroupsTest, LowerLimitEndsTheLatest) {
  Pass(0, std::string("b"), std::string("a"));
  groups_.Find("a", At(0))->second.counters[0] = 4;
  groups_.SetLimit(2, At(0));
  EXPECT_FALSE(groups_.all().contains("_other"));
  groups_.SetLimit(1, At(0));
  EXPECT_TRUE(Exported("b"));
  EXPECT_FALSE(Exported("a"));
  EXPECT_TRUE(Exported("_other"));
  groups_.BeginPass();
  EXPECT_EQ(groups_.Find("a", At(1))->first, Groups::kOverflow);
  groups_.SetLimit(2, At(1));
  EXPECT_EQ(groups_.Find("a", At(1))->second.counters[0], 4U);
}

TEST_F(GroupsTest, NewCountersBeginAtZero) {
  groups_.Find("a", At(0))->second.counters = {1, 2, 3};
  groups_.GrowTo(5);
  EXPECT_EQ(groups_.Find("a", At(0))->second.counters, (std::vector<uint64_t>{1, 2, 3, 0, 0}));
  EXPECT_EQ(groups_.Find("b", At(0))->second.counters.size(), 5U);
  groups_.GrowTo(2);
  EXPECT_EQ(groups_.Find("a", At(0))->second.counters.size(), 5U);
}

}  // namespace
}  // namespace cow::collectors
