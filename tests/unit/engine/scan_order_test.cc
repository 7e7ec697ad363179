#include "collectors/engine/scan_order.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

namespace cow::collectors {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;

std::vector<uint64_t> Order(std::vector<Staleness> families) {
  std::sort(families.begin(), families.end(), &ReadBefore);
  std::vector<uint64_t> ids;
  ids.reserve(families.size());
  for (const Staleness& each : families) ids.push_back(each.family);
  return ids;
}

TEST(ScanOrderTest, NeverReadThenFastThenOld) {
  EXPECT_EQ(Order({{seconds{10}, 0, 9000, 1},
                   {seconds{10}, 100000, 10, 2},
                   {seconds{30}, 0, 10, 3},
                   {std::nullopt, 0, 10, 4},
                   {std::nullopt, 0, 20, 5}}),
            (std::vector<uint64_t>{5, 4, 2, 3, 1}));
}

TEST(ScanOrderTest, EqualOnesBySizeThenByFamily) {
  EXPECT_EQ(Order({{seconds{1}, 5, 10, 3}, {seconds{1}, 5, 10, 1}, {seconds{1}, 5, 20, 2}}),
            (std::vector<uint64_t>{2, 1, 3}));
}

TEST(ScanOrderTest, PriorityGrowsWithAgeAndWithChanges) {
  for (const uint64_t faults : {uint64_t{0}, uint64_t{1}, uint64_t{1000}, ~uint64_t{0}}) {
    double before = 0;
    for (nanoseconds age = milliseconds{2}; age < hours{100}; age *= 2) {
      const double priority = ReadingPriority(age, faults);
      EXPECT_GT(priority, before) << faults << " faults, " << age.count() << " ns";
      EXPECT_GE(priority, std::chrono::duration<double>(age).count());
      before = priority;
    }
  }
  EXPECT_LT(ReadingPriority(seconds{10}, 10), ReadingPriority(seconds{10}, 11));
}

// A million faults per second against none.
TEST(ScanOrderTest, AgeWinsInTheEnd) {
  const Staleness fast{seconds{10}, 10'000'000, 1000, 1};
  EXPECT_EQ(Order({fast, {seconds{200}, 0, 1000, 2}}), (std::vector<uint64_t>{1, 2}));
  EXPECT_EQ(Order({fast, {seconds{220}, 0, 1000, 2}}), (std::vector<uint64_t>{2, 1}));
}

TEST(ScanOrderTest, ClockThatWasSetBackIsNoAge) {
  EXPECT_EQ(ReadingPriority(-hours{1}, 7), ReadingPriority(nanoseconds{0}, 7));
  EXPECT_GT(ReadingPriority(nanoseconds{0}, 0), 0);
}

TEST(ScanOrderTest, IsAStrictOrder) {
  std::mt19937_64 random(3);
  std::vector<Staleness> families;
  for (uint64_t family = 0; family < 300; ++family) {
    Staleness each{seconds{random() % 5}, random() % 3, random() % 3, family};
    if (random() % 4 == 0) each.age.reset();
    families.push_back(each);
  }
  std::vector<Staleness> shuffled = families;
  std::shuffle(shuffled.begin(), shuffled.end(), random);
  EXPECT_EQ(Order(families), Order(shuffled));
  for (const Staleness& a : families) {
    for (const Staleness& b : families) EXPECT_EQ(ReadBefore(a, b) || ReadBefore(b, a), a.family != b.family);
  }
}

}  // namespace
}  // namespace cow::collectors
