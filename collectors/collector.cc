#include "collectors/collector.h"

#include <limits>
#include <utility>

namespace cow::collectors {

void MetricWriter::Begin(std::string name, std::string help, prometheus::MetricType type) {
  out_.push_back({std::move(name), std::move(help), type, {}});
}

void MetricWriter::Add(Labels labels, double value) {
  prometheus::MetricFamily& family = out_.back();
  prometheus::ClientMetric metric;
  metric.label = std::move(labels);
  if (family.type == prometheus::MetricType::Counter) {
    metric.counter.value = value;
  } else {
    metric.gauge.value = value;
  }
  family.metric.push_back(std::move(metric));
}

void MetricWriter::AddFor(std::string_view group, Labels labels, double value) {
  labels.insert(labels.begin(), {"group", std::string(group)});
  Add(std::move(labels), value);
}

void MetricWriter::AddHistogram(std::string_view group, std::span<const double> bounds,
                                std::span<const uint64_t> counts, double sum) {
  prometheus::ClientMetric metric;
  metric.label = {{"group", std::string(group)}};
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
