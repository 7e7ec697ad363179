// The result of a pass as scrapes see it: immutable, rendered once, swapped in whole.
#pragma once

#include <chrono>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "collectors/engine.h"

namespace cow::exporter {

struct Snapshot {
  std::chrono::system_clock::time_point time;
  std::string text;  // all metric families in Prometheus text format 0.0.4
  std::vector<collectors::FamilySummary> families = {};
};

// Holds the latest snapshot. Any thread.
class SnapshotStore {
 public:
  // Never null.
  [[nodiscard]] std::shared_ptr<const Snapshot> Latest() const {
    const std::lock_guard lock(mutex_);
    return latest_;
  }

  void Publish(std::shared_ptr<const Snapshot> snapshot) {
    const std::lock_guard lock(mutex_);
    latest_.swap(snapshot);
  }

 private:
  mutable std::mutex mutex_;  // held for a pointer's copy; libstdc++ 12's atomic<shared_ptr> locks too
  std::shared_ptr<const Snapshot> latest_ = std::make_shared<const Snapshot>();
};

}  // namespace cow::exporter
