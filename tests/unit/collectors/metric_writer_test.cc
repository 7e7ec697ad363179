#include <gtest/gtest.h>

#include <array>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "collectors/metrics.h"
#include "tests/support/declared.h"

namespace cow::collectors {
namespace {

using prometheus::MetricType;

constexpr std::array<std::string_view, 2> kValues{"b", "c"};
constexpr Metric kGauge{.name = "g", .help = "help", .labels = {{{"a", kValues}}}};
constexpr Metric kCounter{.name = "c", .type = MetricType::Counter, .help = "help", .of_groups = false};
constexpr Metric kHistogram{.name = "h", .type = MetricType::Histogram, .help = "help", .known = Known::kFrames};

class MetricWriterTest : public testing::Test {
 protected:
  std::vector<prometheus::MetricFamily> families_;
  std::vector<const Metric*> declared_;
  MetricWriter writer_{families_, declared_};
};

TEST_F(MetricWriterTest, GaugesAndCounters) {
  writer_.Begin(kGauge);
  writer_.AddFor("x", {"b"}, 1.5);
  writer_.Begin(kCounter);
  writer_.Add({}, 2);
  ASSERT_EQ(families_.size(), 2U);
  EXPECT_EQ(families_[0].name, "g");
  EXPECT_EQ(families_[0].help, "help");
  ASSERT_EQ(families_[0].metric.size(), 1U);
  EXPECT_EQ(families_[0].metric[0].gauge.value, 1.5);
  ASSERT_EQ(families_[0].metric[0].label.size(), 2U);
  EXPECT_EQ(families_[0].metric[0].label[0].name, "group");
  EXPECT_EQ(families_[0].metric[0].label[0].value, "x");
  EXPECT_EQ(families_[0].metric[0].label[1].name, "a");
  EXPECT_EQ(families_[0].metric[0].label[1].value, "b");
  EXPECT_EQ(families_[1].metric[0].counter.value, 2);
  for (const auto& family : families_) EXPECT_EQ(test::Undeclared(family, declared_), "");
}

TEST_F(MetricWriterTest, WhatIsBegunIsDeclaredWithoutSeriesToo) {
  writer_.Begin(kGauge);
  writer_.Begin(kCounter);
  EXPECT_EQ(declared_, (std::vector{&kGauge, &kCounter}));
}

TEST_F(MetricWriterTest, OtherLabelsThanDeclaredAreFound) {
  const auto wrong = [this](MetricWriter::Values values) {
    writer_.Begin(kGauge);
    writer_.AddFor("x", values, 1);
    return test::Undeclared(families_.back(), declared_);
  };
  EXPECT_EQ(wrong({"c"}), "");
  EXPECT_EQ(wrong({"d"}), "g has a=d");
  EXPECT_EQ(wrong({}), "g has other labels than it declares");
  EXPECT_EQ(wrong({"b", "c"}), "g has other labels than it declares");
  writer_.Begin(kGauge);
  writer_.Add({"b"}, 1);
  EXPECT_EQ(test::Undeclared(families_.back(), declared_), "g has other labels than it declares");
  EXPECT_EQ(test::Undeclared({"other", "", MetricType::Gauge, {}}, declared_), "other is not declared");
}

TEST_F(MetricWriterTest, HistogramIsCumulative) {
  writer_.Begin(kHistogram);
  GroupSums sums;
  sums.group = "x";
  writer_.AddHistogram(sums, std::array{1.0, 2.0}, std::array<uint64_t, 3>{3, 0, 4}, 12.5);
  ASSERT_EQ(families_.size(), 1U);
  const prometheus::ClientMetric::Histogram& histogram = families_[0].metric.at(0).histogram;
  EXPECT_EQ(histogram.sample_count, 7U);
  EXPECT_EQ(histogram.sample_sum, 12.5);
  ASSERT_EQ(histogram.bucket.size(), 3U);
  EXPECT_EQ(histogram.bucket[0].cumulative_count, 3U);
  EXPECT_EQ(histogram.bucket[1].cumulative_count, 3U);
  EXPECT_EQ(histogram.bucket[1].upper_bound, 2.0);
  EXPECT_EQ(histogram.bucket[2].cumulative_count, 7U);
  EXPECT_EQ(histogram.bucket[2].upper_bound, std::numeric_limits<double>::infinity());
  sums.frames_known = false;
  writer_.AddHistogram(sums, std::array{1.0, 2.0}, std::array<uint64_t, 3>{3, 0, 4}, 12.5);
  EXPECT_EQ(families_[0].metric.size(), 1U);
}

TEST_F(MetricWriterTest, WhatIsNotKnownHasNoSeries) {
  GroupSums sums;
  const auto known = [&sums] {
    std::string letters;
    for (const auto& [what, letter] :
         {std::pair(Known::kAlways, 'a'), std::pair(Known::kPageTables, 'p'), std::pair(Known::kFrames, 'f'),
          std::pair(Known::kScan, 's'), std::pair(Known::kFramesAndScan, '&'), std::pair(Known::kFramesOrScan, '|')}) {
      if (IsKnown(what, sums)) letters += letter;
    }
    return letters;
  };
  EXPECT_EQ(known(), "apfs&|");
  sums.scan_known = false;
  EXPECT_EQ(known(), "apf|");
  sums.frames_known = false;
  EXPECT_EQ(known(), "ap");
  sums.scan_known = true;
  EXPECT_EQ(known(), "aps|");
  sums.readable = false;
  EXPECT_EQ(known(), "a");
}

}  // namespace
}  // namespace cow::collectors
