#include "collectors/memory/sampling.h"

#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <set>
#include <vector>

namespace cow::memory {
namespace {

using std::chrono::milliseconds;
using SteadyTime = std::chrono::steady_clock::time_point;

const SteadyTime kStart{std::chrono::hours(1)};
constexpr uint64_t kFirst = 100;

class SamplingTest : public testing::Test {
 protected:
  static std::vector<PlannedWindow> Windows(uint64_t count, uint64_t first = kFirst) {
    std::vector<PlannedWindow> windows;
    for (uint64_t i = 0; i < count; ++i) windows.push_back({first + i * 3, false});
    return windows;
  }
  // Draws, and reads what was drawn.
  std::set<uint64_t> Pass(const std::vector<PlannedWindow>& windows, double share) {
    request_.share = share;
    sampling_.Draw(windows, request_);
    std::set<uint64_t> drawn;
    for (const PlannedWindow& window : windows) {
      if (sampling_.StratumOf(window.window) == kNotDrawn) continue;
      drawn.insert(window.window);
      sampling_.WasRead(window.window, request_.now);
    }
    request_.now += std::chrono::seconds(10);
    return drawn;
  }

  Sampling sampling_;
  SampleRequest request_{1, kStart, std::chrono::hours(24), 1};
};

TEST_F(SamplingTest, DrawsTheShareOfEachStratum) {
  const auto windows = Windows(1000);
  const std::set<uint64_t> drawn = Pass(windows, 0.1);
  EXPECT_EQ(drawn.size(), 100U);
  EXPECT_FALSE(sampling_.IsWhole());
  std::map<uint32_t, Stratum> seen;
  for (const PlannedWindow& window : windows) {
    const uint32_t stratum = sampling_.StratumOf(window.window);
    if (stratum != kNotDrawn) ++seen[stratum].drawn;
  }
  ASSERT_EQ(seen.size(), sampling_.strata().size());
  uint64_t all = 0;
  for (size_t h = 0; h < sampling_.strata().size(); ++h) {
    const Stratum& stratum = sampling_.strata()[h];
    EXPECT_EQ(seen[static_cast<uint32_t>(h)].drawn, stratum.drawn);
    EXPECT_GE(stratum.drawn, 8U);
    all += stratum.windows;
  }
  EXPECT_EQ(all, 1000U);
}

TEST_F(SamplingTest, EveryWindowHasTheSameChanceInEachPass) {
  const auto windows = Windows(160);
  Pass(windows, 1);  // so that all are known alike
  std::map<uint64_t, int> draws;
  constexpr int kPasses = 2000;
  for (int i = 0; i < kPasses; ++i) {
    request_.now = kStart;  // none is overdue
    for (const uint64_t window : Pass(windows, 0.25)) ++draws[window];
  }
  ASSERT_EQ(draws.size(), 160U);
  // 500 of 2000 expected, standard deviation 19.
  for (const auto& [window, count] : draws) EXPECT_NEAR(count, kPasses / 4, 90) << window;
}

TEST_F(SamplingTest, FewWindowsAreAllRead) {
  EXPECT_EQ(Pass(Windows(Sampling::kLeastDrawn), 0.01).size(), Sampling::kLeastDrawn);
  EXPECT_TRUE(sampling_.IsWhole());
  EXPECT_EQ(Pass(Windows(Sampling::kLeastDrawn + 4, 1000), 0.01).size(), Sampling::kLeastDrawn);
  EXPECT_FALSE(sampling_.IsWhole());
}

TEST_F(SamplingTest, CertainWindowsBelongToNoStratum) {
  auto windows = Windows(200);
  for (size_t i = 0; i < windows.size(); i += 2) windows[i].certain = true;
  const std::set<uint64_t> drawn = Pass(windows, 0.2);
  for (const PlannedWindow& window : windows) {
    if (!window.certain) continue;
    EXPECT_EQ(sampling_.StratumOf(window.window), kCertain);
  }
  EXPECT_EQ(drawn.size(), 120U);
  EXPECT_EQ(sampling_.StratumOf(1), kCertain) << "nobody maps it";
}

TEST_F(SamplingTest, WindowsNeverReadAreDrawnApartFromOthers) {
  const std::set<uint64_t> first = Pass(Windows(400), 0.1);
  Pass(Windows(400), 0.1);
  uint64_t windows = 0;
  for (const Stratum& stratum : sampling_.strata()) windows += stratum.windows;
  EXPECT_EQ(windows, 400U);
  std::set<uint32_t> strata_of_known;
  std::set<uint32_t> strata_of_new;
  for (const PlannedWindow& window : Windows(400)) {
    const uint32_t stratum = sampling_.StratumOf(window.window);
    if (stratum != kNotDrawn) (first.contains(window.window) ? strata_of_known : strata_of_new).insert(stratum);
  }
  for (const uint32_t stratum : strata_of_known) EXPECT_FALSE(strata_of_new.contains(stratum));
}

TEST_F(SamplingTest, NoWindowIsLeftForLongerThanFullEvery) {
  request_.full_every = std::chrono::minutes(10);
  const auto windows = Windows(5000);
  std::map<uint64_t, SteadyTime> read;
  size_t most = 0;
  for (int pass = 0; pass < 200; ++pass) {
    const SteadyTime now = request_.now;
    const std::set<uint64_t> drawn = Pass(windows, 0.01);
    for (const uint64_t window : drawn) read[window] = now;
    if (pass > 60) {
      ASSERT_EQ(read.size(), 5000U);
      for (const auto& [window, time] : read) ASSERT_LE(now - time, request_.full_every) << window;
      most = std::max(most, drawn.size());
    }
  }
  EXPECT_LT(most, 1500U) << "read again in one burst";
}

TEST_F(SamplingTest, SameSeedSameDraw) {
  Sampling other;
  const auto windows = Windows(500);
  request_.share = 0.1;
  sampling_.Draw(windows, request_);
  other.Draw(windows, request_);
  Sampling different;
  ++request_.seed;
  different.Draw(windows, request_);
  bool all_alike = true;
  for (const PlannedWindow& window : windows) {
    EXPECT_EQ(sampling_.StratumOf(window.window), other.StratumOf(window.window));
    all_alike = all_alike && sampling_.StratumOf(window.window) == different.StratumOf(window.window);
  }
  EXPECT_FALSE(all_alike);
}

TEST_F(SamplingTest, FirstLookOfWhoJoinedIsPerWindow) {
  const auto windows = Windows(300);
  const std::set<uint64_t> before = Pass(windows, 0.1);
  const std::set<uint64_t> joined = Pass(windows, 0.1);  // a member is seen first
  auto more = windows;
  const auto later = Windows(100, 10000);
  more.insert(more.end(), later.begin(), later.end());
  request_.share = 0.1;
  sampling_.Draw(more, request_);
  for (const PlannedWindow& window : windows) {
    EXPECT_EQ(sampling_.IsFirstLook(window.window, 2), !joined.contains(window.window));
    EXPECT_FALSE(sampling_.IsFirstLook(window.window, 0)) << "older than the exporter";
  }
  for (const PlannedWindow& window : later) EXPECT_FALSE(sampling_.IsFirstLook(window.window, 2)) << "mapped since";
  // Numbers of passes go on when sampling ends and begins again.
  sampling_.Clear();
  EXPECT_FALSE(sampling_.active());
  Pass(windows, 0.1);
  EXPECT_TRUE(sampling_.active());
  for (const PlannedWindow& window : windows) EXPECT_FALSE(sampling_.IsFirstLook(window.window, 2));
}

TEST_F(SamplingTest, WindowsThatNobodyMapsAreForgotten) {
  Pass(Windows(1000), 0.1);
  const size_t bytes = sampling_.MemoryBytes();
  Pass(Windows(100), 0.1);
  EXPECT_LT(sampling_.MemoryBytes(), bytes / 4);
}

}  // namespace
}  // namespace cow::memory
