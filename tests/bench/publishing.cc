#include "tests/bench/publishing.h"

#include <prometheus/client_metric.h>
#include <prometheus/metric_family.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "exporter/metrics_text/text_format.h"
#include "exporter/snapshot/snapshot.h"
#include "exporter/snapshot/snapshot_file.h"
#include "tests/bench/readers.h"

namespace cow::bench {
namespace {

constexpr size_t kMetrics = 32;
constexpr size_t kSeries = 2;  // of a group in each metric, on average

std::vector<exporter::PreparedFamily> MakeFamilies(size_t groups) {
  std::vector<exporter::PreparedFamily> families;
  for (size_t metric = 0; metric < kMetrics; ++metric) {
    prometheus::MetricFamily family;
    const bool counts = metric % 2 == 0;
    family.name = "cow_made_up_" + std::to_string(metric) + (counts ? "_total" : "_bytes");
    family.help = "A metric of the benchmark, with a sentence that is as long as those of the exporter usually are.";
    family.type = counts ? prometheus::MetricType::Counter : prometheus::MetricType::Gauge;
    for (size_t group = 0; group < groups; ++group) {
      for (size_t series = 0; series < kSeries; ++series) {
        prometheus::ClientMetric value;
        value.label = {{"group", "service" + std::to_string(group)}, {"side", series == 0 ? "parent" : "child"}};
        const auto number = static_cast<double>((metric + 1) * (group + 7) * 4096 * (series + 1));
        value.counter.value = number;
        value.gauge.value = number;
        family.metric.push_back(std::move(value));
      }
    }
    families.push_back({"cow", std::move(family)});
  }
  return families;
}

}  // namespace

PublishResult Publish(size_t groups, size_t rounds) {
  const auto families = MakeFamilies(groups);
  PublishResult result{0, std::chrono::nanoseconds::max(), std::chrono::nanoseconds::max()};
  for (size_t round = 0; round < rounds; ++round) {
    const auto begin = CpuTime();
    const auto snapshot = exporter::RenderSnapshot(families, {});
    const auto rendered = CpuTime();
    const auto file = exporter::WriteSnapshot(*snapshot);
    const auto written = CpuTime();
    result.text_bytes = snapshot->Text(exporter::TextFormat::kPrometheus).size();
    result.render = std::min(result.render, rendered - begin);
    result.write = std::min(result.write, written - rendered);
  }
  return result;
}

}  // namespace cow::bench
