#include "exporter/scan/group_history.h"

#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace cow::exporter {
namespace {

using std::chrono::seconds;
using Clock = GroupHistory::Clock;

struct Values {
  double processes = 1;
  double exposure = 0;
  double parent_breaks = 0;
  double child_breaks = 0;
};

std::vector<PreparedFamily> Families(const std::map<std::string, Values>& groups) {
  prometheus::MetricFamily processes{"cow_processes", "", prometheus::MetricType::Gauge, {}};
  prometheus::MetricFamily exposure{"cow_exposure_bytes", "", prometheus::MetricType::Gauge, {}};
  prometheus::MetricFamily breaks{"cow_breaks_total", "", prometheus::MetricType::Counter, {}};
  for (const auto& [name, values] : groups) {
    prometheus::ClientMetric metric;
    metric.label = {{"group", name}};
    metric.gauge.value = values.processes;
    processes.metric.push_back(metric);
    metric.gauge.value = values.exposure;
    exposure.metric.push_back(metric);
    for (const auto& [side, count] : {std::pair("parent", values.parent_breaks), {"child", values.child_breaks}}) {
      metric.label = {{"group", name}, {"side", side}};
      metric.counter.value = count;
      breaks.metric.push_back(metric);
    }
  }
  return {{"", processes}, {"sharing", exposure}, {"cow", breaks}};
}

TEST(GroupHistoryTest, EmptyAtFirst) { EXPECT_TRUE(GroupHistory().Groups().empty()); }

TEST(GroupHistoryTest, LargestExposureFirstAndWithoutEndedOnes) {
  GroupHistory history;
  history.Add(Clock::time_point{}, Families({{"a", {1, 10}}, {"b", {2, 30}}, {"c", {0, 50}}, {"d", {3, 20}}}));
  const auto groups = history.Groups();
  ASSERT_EQ(groups.size(), 3U);
  EXPECT_EQ(groups[0].group, "b");
  EXPECT_EQ(groups[1].group, "d");
  EXPECT_EQ(groups[2].group, "a");
  EXPECT_EQ(groups[0].processes, 2);
  EXPECT_EQ(groups[0].exposure_bytes, 30);
  EXPECT_FALSE(groups[0].breaks_per_second);
}

TEST(GroupHistoryTest, RateIsOverTheLastMinute) {
  GroupHistory history;
  const Clock::time_point start{};
  // 10 breaks per second for two minutes, then none.
  for (int i = 0; i <= 24; ++i) {
    const double breaks = i * 25;
    history.Add(start + seconds{i * 5}, Families({{"a", {1, 1, breaks, breaks}}}));
    if (i == 0) continue;
    EXPECT_DOUBLE_EQ(*history.Groups()[0].breaks_per_second, 10) << i;
  }
  history.Add(start + seconds{150}, Families({{"a", {1, 1, 600, 600}}}));
  EXPECT_DOUBLE_EQ(*history.Groups()[0].breaks_per_second, 300.0 / 60);
  history.Add(start + seconds{190}, Families({{"a", {1, 1, 600, 600}}}));
  EXPECT_DOUBLE_EQ(*history.Groups()[0].breaks_per_second, 0);
}

TEST(GroupHistoryTest, RateOfDistantPasses) {
  GroupHistory history;
  history.Add(Clock::time_point{}, Families({{"a", {}}}));
  history.Add(Clock::time_point{} + seconds{600}, Families({{"a", {1, 0, 0, 600}}}));
  EXPECT_DOUBLE_EQ(*history.Groups()[0].breaks_per_second, 1);
  history.Add(Clock::time_point{} + seconds{1200}, Families({{"a", {1, 0, 0, 1800}}}));
  EXPECT_DOUBLE_EQ(*history.Groups()[0].breaks_per_second, 2);
}

TEST(GroupHistoryTest, NewGroupAndClosePasses) {
  GroupHistory history;
  const Clock::time_point start{};
  history.Add(start, Families({{"a", {}}}));
  for (int i = 1; i <= 100; ++i) {
    history.Add(start + std::chrono::milliseconds{100 * i}, Families({{"a", {1, 1, i * 1.0, 0}}, {"b", {}}}));
  }
  const auto groups = history.Groups();
  ASSERT_EQ(groups.size(), 2U);
  EXPECT_DOUBLE_EQ(*groups[0].breaks_per_second, 10);
  EXPECT_DOUBLE_EQ(*groups[1].breaks_per_second, 0);
}

}  // namespace
}  // namespace cow::exporter
