// Compares the published metrics of an engine with their declarations.
#pragma once

#include <gtest/gtest.h>
#include <prometheus/metric_family.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "collectors/engine/engine.h"
#include "collectors/metrics.h"

namespace cow::test {

// Returns the error of a metric family; empty if there is none.
inline std::string Undeclared(const prometheus::MetricFamily& family,
                              const std::vector<const collectors::Metric*>& declared) {
  const auto metric = std::find_if(declared.begin(), declared.end(),
                                   [&family](const collectors::Metric* each) { return each->name == family.name; });
  if (metric == declared.end()) return family.name + " is not declared";
  std::vector<collectors::MetricLabel> expected;
  if ((*metric)->of_groups) expected.push_back({"group"});
  std::copy((*metric)->Labels().begin(), (*metric)->Labels().end(), std::back_inserter(expected));
  for (const prometheus::ClientMetric& series : family.metric) {
    if (series.label.size() != expected.size()) return family.name + " has other labels than it declares";
    for (size_t i = 0; i < expected.size(); ++i) {
      const auto& [name, value] = series.label[i];
      const auto& values = expected[i].values;
      if (name != expected[i].name) return family.name + " has a label " + name;
      if (!values.empty() && std::find(values.begin(), values.end(), value) == values.end()) {
        return family.name + " has " + name + "=" + value;
      }
    }
  }
  return {};
}

// Collects the metric families of all collectors and checks each metric family.
inline std::vector<prometheus::MetricFamily> CollectDeclared(const collectors::Engine& engine) {
  std::vector<prometheus::MetricFamily> families;
  for (collectors::CollectedFamilies& made : engine.CollectByCollector()) {
    for (prometheus::MetricFamily& family : made.families) {
      EXPECT_EQ(Undeclared(family, made.declared), "");
      families.push_back(std::move(family));
    }
  }
  return families;
}

using Labels = std::map<std::string, std::string>;

// Returns the value of a counter or gauge with exactly these labels; empty if there is none.
inline std::optional<double> ValueOf(const std::vector<prometheus::MetricFamily>& families, const std::string& name,
                                     const Labels& labels) {
  for (const prometheus::MetricFamily& family : families) {
    if (family.name != name) continue;
    for (const prometheus::ClientMetric& metric : family.metric) {
      Labels found;
      for (const auto& label : metric.label) found[label.name] = label.value;
      if (found != labels) continue;
      return family.type == prometheus::MetricType::Counter ? metric.counter.value : metric.gauge.value;
    }
  }
  return std::nullopt;
}

}  // namespace cow::test
