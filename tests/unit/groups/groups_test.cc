#include "collectors/groups/groups.h"

#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <vector>

namespace cow::collectors {
namespace {

using std::chrono::minutes;
using Strings = std::vector<std::string>;

class GroupsTest : public testing::Test {
 protected:
  static constexpr Groups::Time At(int minute) { return Groups::Time(minutes(10000 + minute)); }

  // Runs a pass with these groups: of single processes, of families, and named by a rule.
  void Pass(int minute, const Strings& single, const Strings& families = {}, const Strings& named = {}) {
    groups_.BeginPass(At(minute));
    for (const std::string& name : named) groups_.Claim(name, {.named = true});
    for (const std::string& name : single) groups_.Claim(name, {});
    for (const std::string& name : families) groups_.Claim(name, {.has_family = true});
    groups_.Admit();
    for (const Strings* names : {&named, &single, &families}) {
      for (const std::string& name : *names) groups_.Find(name);
    }
  }
  bool Exported(const std::string& name) const {
    const auto found = groups_.all().find(name);
    return found != groups_.all().end() && found->second.exported;
  }
  std::vector<uint64_t>& Counters(const std::string& name) { return groups_.Find(name)->second.counters; }

  Groups groups_{2, 3};
};

TEST_F(GroupsTest, CountersBeginAtZeroAndStay) {
  Pass(0, {"a"});
  EXPECT_EQ(Counters("a"), (std::vector<uint64_t>{0, 0, 0}));
  Counters("a")[1] = 5;
  Pass(1, {"a"});
  EXPECT_EQ(Counters("a")[1], 5U);
}

TEST_F(GroupsTest, GroupsBeyondTheLimitAreTheOverflow) {
  Pass(0, {"a", "b", "c", "d", "c"});
  for (const char* name : {"a", "b"}) EXPECT_EQ(groups_.Find(name)->first, name);
  for (const char* name : {"c", "d"}) EXPECT_EQ(groups_.Find(name)->first, Groups::kOverflow);
  EXPECT_TRUE(Exported(Groups::kOverflow));
  EXPECT_EQ(groups_.overflowed(), 2U);
  Pass(1, {"a"});
  EXPECT_EQ(groups_.overflowed(), 0U);
}

TEST_F(GroupsTest, OverflowTakesNoPlace) {
  Pass(0, {"_other", "a", "b"});
  EXPECT_TRUE(Exported("a"));
  EXPECT_TRUE(Exported("b"));
  EXPECT_EQ(groups_.overflowed(), 0U);
}

TEST_F(GroupsTest, SingleProcessesAreExportedFromTheSecondPassOn) {
  Pass(0, {"first"});
  EXPECT_TRUE(Exported("first")) << "it was there before the exporter, as far as anybody knows";
  Pass(1, {"first", "late"});
  EXPECT_FALSE(Exported("late"));
  EXPECT_EQ(groups_.Find("late")->first, "late") << "it is not part of the overflow group either";
  EXPECT_EQ(groups_.overflowed(), 0U);
  Counters("late")[0] = 7;
  Pass(2, {"first", "late"});
  EXPECT_TRUE(Exported("late"));
  EXPECT_EQ(Counters("late")[0], 7U);
}

TEST_F(GroupsTest, FamiliesAndNamedGroupsAreExportedAtOnce) {
  Pass(0, {});
  Pass(1, {}, {"family"}, {"named"});
  EXPECT_TRUE(Exported("family"));
  EXPECT_TRUE(Exported("named"));
}

TEST_F(GroupsTest, WhatLivesForOnePassLeavesNothing) {
  Pass(0, {});
  for (int minute = 1; minute < 100; ++minute) Pass(minute, {"p" + std::to_string(minute)});
  EXPECT_LE(groups_.all().size(), 1U);
}

TEST_F(GroupsTest, EndedGroupOfFamiliesIsExportedForFiveMinutes) {
  Pass(0, {"b"}, {"a"});
  Pass(5, {"b"});
  EXPECT_TRUE(Exported("a"));
  Pass(6, {"b"});
  EXPECT_FALSE(Exported("a"));
  EXPECT_TRUE(Exported("b"));
}

TEST_F(GroupsTest, EndedGroupThatNeverHadAFamilyEndsAtOnce) {
  Pass(0, {"a", "b"});
  Pass(1, {"b"});
  EXPECT_FALSE(Exported("a"));
}

TEST_F(GroupsTest, EndedGroupComesBackWithItsCounters) {
  Pass(0, {}, {"a"});
  Counters("a")[2] = 9;
  Pass(10, {}, {"b"});
  EXPECT_FALSE(Exported("a"));
  Pass(11, {"a"});
  EXPECT_TRUE(Exported("a"));
  EXPECT_EQ(Counters("a")[2], 9U);
}

TEST_F(GroupsTest, EndedGroupsMakePlaceAtOnce) {
  Pass(0, {}, {"a", "b"});
  Pass(1, {}, {"b", "c"});
  EXPECT_FALSE(Exported("a"));
  EXPECT_TRUE(Exported("c"));
  EXPECT_EQ(groups_.overflowed(), 0U);
}

// A service that starts later finds room even if ended groups and single processes filled the limit.
TEST_F(GroupsTest, FamiliesAndNamedGroupsComeFirst) {
  Pass(0, {"a", "b"});
  Pass(1, {"a", "b"}, {"family"});
  EXPECT_TRUE(Exported("family"));
  EXPECT_TRUE(Exported("a"));
  EXPECT_FALSE(Exported("b")) << "the later one made room";
  EXPECT_EQ(groups_.Find("b")->first, Groups::kOverflow);
  EXPECT_EQ(groups_.overflowed(), 1U);
  Pass(2, {"a", "b"}, {"family"}, {"named"});
  EXPECT_TRUE(Exported("family"));
  EXPECT_TRUE(Exported("named"));
  EXPECT_FALSE(Exported("a"));
  EXPECT_EQ(groups_.overflowed(), 2U);
  Pass(3, {"a", "b"}, {"family", "another"}, {"named"});
  EXPECT_EQ(groups_.Find("another")->first, Groups::kOverflow) << "of equals the earlier ones stay";
}

TEST_F(GroupsTest, GroupThatHadAFamilyStaysPreferred) {
  Pass(0, {"a"}, {"b"});
  Pass(1, {"a", "b"}, {"c"});
  EXPECT_TRUE(Exported("b"));
  EXPECT_TRUE(Exported("c"));
  EXPECT_FALSE(Exported("a"));
}

TEST_F(GroupsTest, ManyShortLivedProgramsLeaveRoomForServices) {
  Pass(0, {});
  Strings programs;
  for (int i = 0; i < 300; ++i) programs.push_back("p" + std::to_string(i));
  Pass(1, programs);
  Pass(2, programs);
  Strings services{"s1", "s2"};
  Pass(3, programs, services);
  for (const std::string& service : services) EXPECT_TRUE(Exported(service)) << service;
}

TEST_F(GroupsTest, LongestEndedGroupsAreForgotten) {
  int minute = 0;
  for (const char* name : {"a", "b", "c", "d"}) {
    Pass(minute, {}, {name});
    minute += 10;
  }
  EXPECT_FALSE(groups_.all().contains("a"));
  EXPECT_TRUE(groups_.all().contains("b"));
  EXPECT_TRUE(groups_.all().contains("c"));
  EXPECT_TRUE(Exported("d"));
}

TEST_F(GroupsTest, LowerLimitEndsTheLatest) {
  Pass(0, {"b", "a"});
  Counters("a")[0] = 4;
  groups_.SetLimit(2);
  EXPECT_FALSE(groups_.all().contains("_other"));
  groups_.SetLimit(1);
  EXPECT_TRUE(Exported("b"));
  EXPECT_FALSE(Exported("a"));
  EXPECT_TRUE(Exported("_other"));
  EXPECT_EQ(groups_.Find("a")->first, Groups::kOverflow);
  groups_.SetLimit(2);
  Pass(1, {"b", "a"});
  EXPECT_EQ(Counters("a")[0], 4U);
}

TEST_F(GroupsTest, NewCountersBeginAtZero) {
  Pass(0, {"a"});
  Counters("a") = {1, 2, 3};
  groups_.GrowTo(5);
  EXPECT_EQ(Counters("a"), (std::vector<uint64_t>{1, 2, 3, 0, 0}));
  groups_.GrowTo(2);
  EXPECT_EQ(Counters("a").size(), 5U);
}

}  // namespace
}  // namespace cow::collectors
