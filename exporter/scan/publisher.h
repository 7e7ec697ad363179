// Turns the values of a pass runner into the snapshot that scrapes get.
//
// Publish from one thread at a time; everything else from any thread.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "exporter/log/log.h"
#include "exporter/log/log_once.h"
#include "exporter/metrics_text/text_format.h"
#include "exporter/scan/group_history.h"
#include "exporter/scan/pass_runner.h"
#include "exporter/scan/statistics.h"
#include "exporter/snapshot/snapshot.h"

namespace cow::exporter {

// Adds the exporter's own families to `collected` and prepares all of them for a text format.
PreparedFamilies PrepareWithSelfMetrics(std::vector<collectors::CollectedFamilies> collected,
                                        const ScanStatistics& statistics, const AddSelfMetrics& add_self_metrics);

using ProcessFamilies = std::vector<collectors::FamilySummary>;

class Publisher {
 public:
  // `log` must outlive this object.
  Publisher(AddSelfMetrics add_self_metrics, Log& log);

  // `ready` and `on_demand` go into the snapshot.
  void Publish(const PassRunner& runner, const ScanStatistics& statistics, bool ready, bool on_demand);

  // Null before the first Publish.
  [[nodiscard]] std::shared_ptr<const Snapshot> Latest() const {
    const std::lock_guard lock(mutex_);
    return latest_;
  }
  // The families with two members or more at the last Publish, for /api/v1/families.
  [[nodiscard]] std::shared_ptr<const ProcessFamilies> Families() const {
    const std::lock_guard lock(mutex_);
    return families_;
  }

 private:
  const AddSelfMetrics add_self_metrics_;
  Log& log_;
  LogOnce logged_problems_;
  GroupHistory history_;
  mutable std::mutex mutex_;  // guards the two pointers
  std::shared_ptr<const Snapshot> latest_;
  std::shared_ptr<const ProcessFamilies> families_ = std::make_shared<const ProcessFamilies>();
};

}  // namespace cow::exporter
