#include "exporter/text_format.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

namespace cow::exporter {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricType;

ClientMetric Gauge(double value, std::vector<ClientMetric::Label> labels = {}) {
  ClientMetric metric;
  metric.label = std::move(labels);
  metric.gauge.value = value;
  return metric;
}

TEST(RenderTextTest, EscapesHelpAndLabels) {
  const RenderedText result =
      RenderText({{"a", "one\ntwo\\three", MetricType::Gauge, {Gauge(1, {{"l", "x\n\"y\"\\"}})}}});
  EXPECT_TRUE(result.problems.empty());
  EXPECT_EQ(result.text,
            "# HELP a one\\ntwo\\\\three\n"
            "# TYPE a gauge\n"
            "a{l=\"x\\n\\\"y\\\"\\\\\"} 1\n");
}

TEST(RenderTextTest, SortsAndMergesFamilies) {
  const RenderedText result = RenderText({{"b", "", MetricType::Gauge, {Gauge(1, {{"l", "1"}})}},
                                          {"a", "", MetricType::Gauge, {Gauge(2)}},
                                          {"b", "", MetricType::Gauge, {Gauge(3, {{"l", "2"}})}}});
  EXPECT_TRUE(result.problems.empty());
  EXPECT_EQ(result.text, "# TYPE a gauge\na 2\n# TYPE b gauge\nb{l=\"1\"} 1\nb{l=\"2\"} 3\n");
}

TEST(RenderTextTest, LeavesOutWhatWouldBreakTheScrape) {
  const RenderedText result = RenderText(
      {{"0bad", "", MetricType::Gauge, {Gauge(1)}},
       {"a", "", MetricType::Gauge, {Gauge(1, {{"l", "1"}, {"m", "2"}}), Gauge(2, {{"m", "2"}, {"l", "1"}})}},
       {"a", "", MetricType::Counter, {Gauge(3)}},
       {"b", "", MetricType::Gauge, {Gauge(1, {{"l-l", "1"}}), Gauge(1, {{"l", "1"}, {"l", "2"}})}},
       {"c", "", MetricType::Gauge, {}}});
  EXPECT_EQ(result.problems, (std::vector<std::string>{"invalid metric name", "two types of a", "duplicate series in a",
                                                       "invalid labels in b", "invalid labels in b"}));
  EXPECT_EQ(result.text, "# TYPE a gauge\na{l=\"1\",m=\"2\"} 1\n");
}

TEST(RenderTextTest, NothingIsEmptyText) { EXPECT_EQ(RenderText({}).text, ""); }

}  // namespace
}  // namespace cow::exporter
