// The exporter's own metrics: cow_scan_duration_seconds, cow_scan_cpu_seconds_total, cow_exporter_* and process_*.
//
// process_* are read from this process' own /proc/self, whatever --path.procfs says; one that can't be read is left
// out. Any thread.
#pragma once

#include <atomic>
#include <chrono>
#include <string>

#include "collectors/metrics.h"
#include "exporter/scan/scan_loop.h"

namespace cow::exporter {

class SelfMetrics {
 public:
  // `configured_at`: when the configuration in force was read.
  SelfMetrics(std::string version, bool with_process_metrics, std::chrono::system_clock::time_point configured_at);

  // The configuration was read again: whether it is in force now.
  void NoteReload(bool successful, std::chrono::system_clock::time_point now);

  void Append(const ScanStatistics& scan, collectors::MetricWriter& writer) const;

 private:
  std::string version_;
  bool with_process_metrics_;
  std::atomic<bool> reload_successful_ = true;
  std::atomic<std::chrono::system_clock::time_point> configured_at_;
};

}  // namespace cow::exporter
