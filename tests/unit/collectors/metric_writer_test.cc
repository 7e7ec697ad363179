#include <gtest/gtest.h>

#include <array>
#include <limits>
#include <vector>

#include "collectors/collector.h"

namespace cow::collectors {
namespace {

TEST(MetricWriterTest, GaugesAndCounters) {
  std::vector<prometheus::MetricFamily> families;
  MetricWriter writer(families);
  writer.Begin("g", "help", prometheus::MetricType::Gauge);
  writer.AddFor("x", {{"a", "b"}}, 1.5);
  writer.Begin("c", "help", prometheus::MetricType::Counter);
  writer.Add({}, 2);
  ASSERT_EQ(families.size(), 2U);
  ASSERT_EQ(families[0].metric.size(), 1U);
  EXPECT_EQ(families[0].metric[0].gauge.value, 1.5);
  ASSERT_EQ(families[0].metric[0].label.size(), 2U);
  EXPECT_EQ(families[0].metric[0].label[0].name, "group");
  EXPECT_EQ(families[0].metric[0].label[0].value, "x");
  EXPECT_EQ(families[0].metric[0].label[1].name, "a");
  EXPECT_EQ(families[1].metric[0].counter.value, 2);
}

TEST(MetricWriterTest, HistogramIsCumulative) {
  std::vector<prometheus::MetricFamily> families;
  MetricWriter writer(families);
  writer.Begin("h", "help", prometheus::MetricType::Histogram);
  writer.AddHistogram("x", std::array{1.0, 2.0}, std::array<uint64_t, 3>{3, 0, 4}, 12.5);
  ASSERT_EQ(families.size(), 1U);
  const prometheus::ClientMetric::Histogram& histogram = families[0].metric.at(0).histogram;
  EXPECT_EQ(histogram.sample_count, 7U);
  EXPECT_EQ(histogram.sample_sum, 12.5);
  ASSERT_EQ(histogram.bucket.size(), 3U);
  EXPECT_EQ(histogram.bucket[0].cumulative_count, 3U);
  EXPECT_EQ(histogram.bucket[1].cumulative_count, 3U);
  EXPECT_EQ(histogram.bucket[1].upper_bound, 2.0);
  EXPECT_EQ(histogram.bucket[2].cumulative_count, 7U);
  EXPECT_EQ(histogram.bucket[2].upper_bound, std::numeric_limits<double>::infinity());
}

}  // namespace
}  // namespace cow::collectors
