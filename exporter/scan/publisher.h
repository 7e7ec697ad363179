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
#include "exporter/scan/snapshot.h"
#include "exporter/scan/statistics.h"

namespace cow::exporter {

// Adds the exporter's own families to `collected` and prepares all of them for a text format.
PreparedFamilies PrepareWithSelfMetrics(std::vector<collectors::CollectedFamilies> collected,
                                        const ScanStatistics& statistics, const AddSelfMetrics& add_self_metrics);

class Publisher {
 public:
  // `log` must outlive this object.
  Publisher(AddSelfMetrics add_self_metrics, Log& log);

  void Publish(const PassRunner& runner, const ScanStatistics& statistics);

  // Never null.
  [[nodiscard]] std::shared_ptr<const Snapshot> Latest() const {
    const std::lock_guard lock(mutex_);
    return latest_;
  }
  // The groups of the latest snapshot.
  [[nodiscard]] std::vector<GroupSummary> Groups() const { return history_.Groups(); }

 private:
  const AddSelfMetrics add_self_metrics_;
  Log& log_;
  LogOnce logged_problems_;
  GroupHistory history_;
  mutable std::mutex mutex_;  // guards latest_; libstdc++ 12's atomic<shared_ptr> locks too
  std::shared_ptr<const Snapshot> latest_ = std::make_shared<const Snapshot>();
};

}  // namespace cow::exporter
