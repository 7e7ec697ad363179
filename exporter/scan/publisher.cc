#include "exporter/scan/publisher.h"

#include <chrono>
#include <string>
#include <utility>

namespace cow::exporter {

PreparedFamilies PrepareWithSelfMetrics(std::vector<collectors::CollectedFamilies> collected,
                                        const ScanStatistics& statistics, const AddSelfMetrics& add_self_metrics) {
  collectors::CollectedFamilies& own = collected.emplace_back();
  collectors::MetricWriter writer(own.families, own.declared);
  add_self_metrics(statistics, writer);
  return PrepareFamilies(std::move(collected));
}

Publisher::Publisher(AddSelfMetrics add_self_metrics, Log& log)
    : add_self_metrics_(std::move(add_self_metrics)), log_(log) {}

void Publisher::Publish(const PassRunner& runner, const ScanStatistics& statistics, bool ready, bool on_demand) {
  std::vector<collectors::CollectedFamilies> collected = runner.Collect();
  SnapshotIndex index;
  index.ready = ready;
  index.on_demand = on_demand;
  for (const collectors::CollectedFamilies& made : collected) {
    if (!made.collector.empty()) index.collectors.emplace_back(made.collector);
  }
  PreparedFamilies prepared = PrepareWithSelfMetrics(std::move(collected), statistics, add_self_metrics_);
  for (const std::string& problem : prepared.problems) {
    if (const auto admitted = logged_problems_.Admit(problem)) {
      log_.Error("metrics left out", {{"problem", *admitted}});
    }
  }
  history_.Add(GroupHistory::Clock::now(), prepared.families);
  index.groups = history_.Groups();
  std::shared_ptr<const Snapshot> snapshot = RenderSnapshot(prepared.families, std::move(index));
  auto families = std::make_shared<const ProcessFamilies>(runner.Families());
  const std::lock_guard lock(mutex_);
  latest_.swap(snapshot);
  families_.swap(families);
}

}  // namespace cow::exporter
