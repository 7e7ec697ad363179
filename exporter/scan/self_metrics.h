// The exporter's own metrics: cow_scan_duration_seconds, cow_scan_cpu_seconds_total, cow_exporter_* and process_*.
//
// Reads process_* from this process's own /proc/self; --path.procfs does not apply. Omits a value that cannot be read.
// Any thread.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>

#include "exporter/build_info/build_info.h"
#include "exporter/scan/statistics.h"

namespace cow::exporter {

class SelfMetrics {
 public:
  // Returns how many log lines were dropped. Any thread.
  using DroppedLines = std::function<uint64_t()>;

  // `configured_at`: when the configuration in force was read.
  SelfMetrics(BuildInfo build, bool with_process_metrics, std::chrono::system_clock::time_point configured_at,
              DroppedLines dropped_lines);

  // Records the outcome of a reload.
  void RecordReload(bool successful, std::chrono::system_clock::time_point now);

  void RecordFrontRestart() { ++front_restarts_; }

  void Append(const ScanStatistics& scan, collectors::MetricWriter& writer) const;

 private:
  BuildInfo build_;
  bool with_process_metrics_;
  std::atomic<uint64_t> front_restarts_ = 0;
  DroppedLines dropped_lines_;
  std::atomic<bool> reload_successful_ = true;
  std::atomic<std::chrono::system_clock::time_point> configured_at_;
};

}  // namespace cow::exporter
