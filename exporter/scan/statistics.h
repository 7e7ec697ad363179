// What the scanning thread reports about itself. Plain values.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string_view>

#include "collectors/metrics.h"

namespace cow::exporter {

// Why a pass or another step of the scanning thread failed.
enum class ScanFailure : size_t {
  kMemory,     // an allocation failed
  kProcesses,  // the processes cannot be listed
  kError,      // anything else
};
inline constexpr std::array<std::string_view, 3> kScanFailures{"memory", "processes", "error"};
using ScanFailureCounts = std::array<uint64_t, kScanFailures.size()>;  // by reason

struct ScanStatistics {
  std::optional<std::chrono::duration<double>> last_duration;  // wall time of the last completed pass
  std::chrono::duration<double> cpu{0};                        // total of all scanning threads
  std::optional<uint64_t> early_passes;                        // started before their tick; empty at interval 0
  ScanFailureCounts failures{};
};

// Appends the exporter's own families.
using AddSelfMetrics = std::function<void(const ScanStatistics&, collectors::MetricWriter&)>;

}  // namespace cow::exporter
