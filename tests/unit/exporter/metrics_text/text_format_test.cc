#include "exporter/metrics_text/text_format.h"

#include <gtest/gtest.h>

#include <limits>
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

ClientMetric Counter(double value) {
  ClientMetric metric;
  metric.counter.value = value;
  return metric;
}

struct Result {
  std::string text;
  std::vector<std::string> problems;
};

Result Render(std::vector<prometheus::MetricFamily> families, TextFormat format = TextFormat::kPrometheus) {
  PreparedFamilies prepared = PrepareFamilies({{"cow", std::move(families)}});
  return {RenderText(prepared.families, format).text, std::move(prepared.problems)};
}

TEST(RenderTextTest, EscapesHelpAndLabels) {
  const std::vector<prometheus::MetricFamily> families = {
      {"a", "one\ntwo\\three \"x\"", MetricType::Gauge, {Gauge(1, {{"l", "x\n\"y\"\\"}})}}};
  const std::string sample = "a{l=\"x\\n\\\"y\\\"\\\\\"} 1\n";
  EXPECT_EQ(Render(families).text, "# HELP a one\\ntwo\\\\three \"x\"\n# TYPE a gauge\n" + sample);
  EXPECT_EQ(Render(families, TextFormat::kOpenMetrics).text,
            "# HELP a one\\ntwo\\\\three \\\"x\\\"\n# TYPE a gauge\n" + sample + "# EOF\n");
}

TEST(RenderTextTest, SortsAndMergesFamilies) {
  const Result result = Render({{"b", "", MetricType::Gauge, {Gauge(1, {{"l", "1"}})}},
                                {"a", "", MetricType::Gauge, {Gauge(2)}},
                                {"b", "", MetricType::Gauge, {Gauge(3, {{"l", "2"}})}}});
  EXPECT_TRUE(result.problems.empty());
  EXPECT_EQ(result.text, "# TYPE a gauge\na 2\n# TYPE b gauge\nb{l=\"1\"} 1\nb{l=\"2\"} 3\n");
}

TEST(RenderTextTest, DropsFamiliesThatWouldBreakTheScrape) {
  PreparedFamilies prepared = PrepareFamilies(
      {{"cow",
        {{"0bad", "", MetricType::Gauge, {Gauge(1)}},
         {"a", "", MetricType::Gauge, {Gauge(1, {{"l", "1"}, {"m", "2"}}), Gauge(2, {{"m", "2"}, {"l", "1"}})}},
         {"a", "", MetricType::Counter, {Gauge(3)}},
         {"b", "", MetricType::Gauge, {Gauge(1, {{"l-l", "1"}}), Gauge(1, {{"l", "1"}, {"l", "2"}})}},
         {"c", "", MetricType::Gauge, {}}}},
       {"thp", {{"a", "", MetricType::Gauge, {Gauge(4, {{"l", "3"}})}}}}});
  EXPECT_EQ(prepared.problems,
            (std::vector<std::string>{"invalid metric name", "two types of a", "two collectors of a",
                                      "duplicate series in a", "invalid labels in b", "invalid labels in b"}));
  EXPECT_EQ(RenderText(prepared.families, TextFormat::kPrometheus).text, "# TYPE a gauge\na{l=\"1\",m=\"2\"} 1\n");
}

TEST(RenderTextTest, NoFamiliesGiveAnEmptyText) {
  EXPECT_EQ(Render({}).text, "");
  EXPECT_EQ(Render({}, TextFormat::kOpenMetrics).text, "# EOF\n");
}

TEST(RenderTextTest, OpenMetricsCountersAndUnits) {
  const std::string text = Render({{"a_bytes_total", "", MetricType::Counter, {Counter(5)}},
                                   {"b_seconds", "", MetricType::Gauge, {Gauge(0.5)}},
                                   {"c", "", MetricType::Counter, {Counter(1)}},
                                   {"d_ratio", "", MetricType::Gauge, {Gauge(1)}},
                                   {"kilobytes", "", MetricType::Gauge, {Gauge(1)}}},
                                  TextFormat::kOpenMetrics)
                               .text;
  EXPECT_EQ(text,
            "# TYPE a_bytes counter\n# UNIT a_bytes bytes\na_bytes_total 5\n"
            "# TYPE b_seconds gauge\n# UNIT b_seconds seconds\nb_seconds 0.5\n"
            "# TYPE c counter\nc_total 1\n"
            "# TYPE d_ratio gauge\n# UNIT d_ratio ratio\nd_ratio 1\n"
            "# TYPE kilobytes gauge\nkilobytes 1\n# EOF\n");
}

TEST(RenderTextTest, Histogram) {
  ClientMetric metric;
  metric.label.push_back({"g", "x"});
  metric.histogram.sample_count = 3;
  metric.histogram.sample_sum = 1.5;
  for (const double bound : {0.00001, 0.25, 1.0, 524288.0, 4194304.0}) metric.histogram.bucket.push_back({2, bound});
  const std::vector<prometheus::MetricFamily> families = {{"h", "", MetricType::Histogram, {metric}}};
  EXPECT_EQ(Render(families).text,
            "# TYPE h histogram\nh_count{g=\"x\"} 3\nh_sum{g=\"x\"} 1.5\n"
            "h_bucket{g=\"x\",le=\"1e-05\"} 2\nh_bucket{g=\"x\",le=\"0.25\"} 2\nh_bucket{g=\"x\",le=\"1\"} 2\n"
            "h_bucket{g=\"x\",le=\"524288\"} 2\nh_bucket{g=\"x\",le=\"4194304\"} 2\nh_bucket{g=\"x\",le=\"+Inf\"} 3\n");
  EXPECT_EQ(Render(families, TextFormat::kOpenMetrics).text,
            "# TYPE h histogram\nh_count{g=\"x\"} 3\nh_sum{g=\"x\"} 1.5\n"
            "h_bucket{g=\"x\",le=\"1e-05\"} 2\nh_bucket{g=\"x\",le=\"0.25\"} 2\nh_bucket{g=\"x\",le=\"1.0\"} 2\n"
            "h_bucket{g=\"x\",le=\"524288.0\"} 2\nh_bucket{g=\"x\",le=\"4.194304e+06\"} 2\n"
            "h_bucket{g=\"x\",le=\"+Inf\"} 3\n# EOF\n");
}

TEST(RenderTextTest, Untyped) {
  ClientMetric metric;
  metric.untyped.value = 7;
  const std::vector<prometheus::MetricFamily> families = {{"u", "", MetricType::Untyped, {metric}}};
  EXPECT_EQ(Render(families).text, "# TYPE u untyped\nu 7\n");
  EXPECT_NE(Render(families, TextFormat::kOpenMetrics).text.find("# TYPE u unknown\n"), std::string::npos);
}

TEST(RenderTextTest, Numbers) {
  const auto value = [](double number) {
    const std::string text = Render({{"a", "", MetricType::Gauge, {Gauge(number)}}}).text;
    return text.substr(text.find("\na ") + 3);
  };
  EXPECT_EQ(value(0), "0\n");
  EXPECT_EQ(value(-3), "-3\n");
  EXPECT_EQ(value(9007199254740992.0), "9007199254740992\n");
  EXPECT_EQ(value(1e300), "1e+300\n");
  EXPECT_EQ(value(0.1), "0.1\n");
  EXPECT_EQ(value(1234567.25), "1234567.25\n");
  EXPECT_EQ(value(std::numeric_limits<double>::quiet_NaN()), "NaN\n");
  EXPECT_EQ(value(-std::numeric_limits<double>::infinity()), "-Inf\n");
}

TEST(RenderTextTest, ReportsTheEndOfEachFamily) {
  const PreparedFamilies prepared = PrepareFamilies(
      {{"cow", {{"b", "", MetricType::Gauge, {Gauge(1)}}}}, {"", {{"a", "", MetricType::Gauge, {Gauge(1)}}}}});
  const RenderedText rendered = RenderText(prepared.families, TextFormat::kOpenMetrics);
  ASSERT_EQ(rendered.ends.size(), 2U);
  EXPECT_EQ(rendered.text.substr(0, rendered.ends[0]), "# TYPE a gauge\na 1\n");
  EXPECT_EQ(rendered.text.substr(rendered.ends[1]), "# EOF\n");
  EXPECT_EQ(prepared.families[0].collector, "");
  EXPECT_EQ(prepared.families[1].collector, "cow");
}

}  // namespace
}  // namespace cow::exporter
