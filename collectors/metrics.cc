#include "collectors/metrics.h"

#include <algorithm>
#include <limits>
#include <string>
#include <utility>

namespace cow::collectors {

using prometheus::ClientMetric;

std::span<const MetricLabel> Metric::Labels() const {
  const auto end =
      std::find_if(labels.begin(), labels.end(), [](const MetricLabel& label) { return label.name.empty(); });
  return std::span(labels).first(static_cast<size_t>(end - labels.begin()));
}

bool IsKnown(Known what, const GroupSums& sums) {
  switch (what) {
    case Known::kAlways:
      return true;
    case Known::kPageTables:
      return sums.readable;
    case Known::kFrames:
      return sums.readable && sums.frames_known;
    case Known::kScan:
      return sums.readable && sums.scan_known;
    case Known::kFramesAndScan:
      return sums.readable && sums.frames_known && sums.scan_known;
    case Known::kFramesOrScan:
      return sums.readable && (sums.frames_known || sums.scan_known);
    case Known::kFramesAndMapCounts:
      return sums.readable && sums.frames_known && sums.mapcounts_known;
    case Known::kFramesOrMapCounts:
      return sums.readable && (sums.frames_known || sums.mapcounts_known);
  }
  return false;
}

void MetricWriter::Begin(const Metric& metric) {
  declared_.push_back(&metric);
  out_.push_back({std::string(metric.name), std::string(metric.help), metric.type, {}});
}

void MetricWriter::Add(Values values, double value) {
  prometheus::MetricFamily& family = out_.back();
  ClientMetric metric;
  const std::span<const MetricLabel> labels = declared_.back()->Labels();
  // Tests find a wrong number of values.
  auto label = labels.begin();
  for (const std::string_view each : values) {
    metric.label.push_back({label == labels.end() ? "undeclared" : std::string(label++->name), std::string(each)});
  }
  if (family.type == prometheus::MetricType::Counter) {
    metric.counter.value = value;
  } else {
    metric.gauge.value = value;
  }
  family.metric.push_back(std::move(metric));
}

void MetricWriter::AddFor(std::string_view group, Values values, double value) {
  Add(values, value);
  std::vector<ClientMetric::Label>& labels = out_.back().metric.back().label;
  labels.insert(labels.begin(), {"group", std::string(group)});
}

void MetricWriter::AddFor(const GroupSums& sums, Values values, double value) {
  if (IsKnown(declared_.back()->known, sums)) AddFor(sums.group, values, value);
}

void MetricWriter::AddHistogram(const GroupSums& sums, std::span<const double> bounds, std::span<const uint64_t> counts,
                                double sum) {
  if (!IsKnown(declared_.back()->known, sums)) return;
  ClientMetric metric;
  metric.label = {{"group", std::string(sums.group)}};
  uint64_t cumulative = 0;
  for (size_t i = 0; i < counts.size(); ++i) {
    cumulative += counts[i];
    const double bound = i < bounds.size() ? bounds[i] : std::numeric_limits<double>::infinity();
    metric.histogram.bucket.push_back({cumulative, bound});
  }
  metric.histogram.sample_count = cumulative;
  metric.histogram.sample_sum = sum;
  out_.back().metric.push_back(std::move(metric));
}

}  // namespace cow::collectors
