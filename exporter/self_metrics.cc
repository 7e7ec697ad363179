#include "exporter/self_metrics.h"

#include <sys/resource.h>
#include <sys/time.h>
#include <unistd.h>

#include <filesystem>
#include <iterator>
#include <optional>
#include <system_error>
#include <utility>

#include "collectors/procfs/root.h"
#include "collectors/procfs/stat.h"
#include "collectors/procfs/statm.h"
#include "collectors/procfs/system.h"

namespace cow::exporter {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

void Add(std::vector<MetricFamily>& families, MetricType type, std::string name, std::string help, double value,
         std::vector<ClientMetric::Label> labels = {}) {
  ClientMetric metric;
  metric.label = std::move(labels);
  if (type == MetricType::Counter) {
    metric.counter.value = value;
  } else {
    metric.gauge.value = value;
  }
  families.push_back({std::move(name), std::move(help), type, {std::move(metric)}});
}

double Seconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
}

std::optional<double> StartTimeSeconds(const procfs::Root& root) {
  const auto stat = procfs::ReadStat(root, getpid());
  const auto boot = procfs::ReadBootTimeSeconds(root);
  if (!stat || !boot) return std::nullopt;
  return static_cast<double>(*boot) +
         static_cast<double>(stat->start_time_ticks) / static_cast<double>(procfs::ReadClockTicksPerSecond(root));
}

std::optional<double> OpenDescriptors(const procfs::Root& root) {
  std::error_code error;
  double count = -1;  // the one that lists the directory
  auto entry = std::filesystem::directory_iterator(root.ProcPath("self/fd"), error);
  for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) ++count;
  if (error) return std::nullopt;
  return count;
}

void AddProcess(std::vector<MetricFamily>& families) {
  const procfs::Root root;
  rusage usage{};
  if (getrusage(RUSAGE_SELF, &usage) == 0) {
    Add(families, MetricType::Counter, "process_cpu_seconds_total", "User and system CPU time of the exporter.",
        Seconds(usage.ru_utime) + Seconds(usage.ru_stime));
  }
  if (const auto statm = procfs::ReadStatm(root, getpid())) {
    const auto page_bytes = static_cast<double>(sysconf(_SC_PAGESIZE));
    Add(families, MetricType::Gauge, "process_resident_memory_bytes", "Resident memory of the exporter.",
        static_cast<double>(statm->resident_pages) * page_bytes);
    Add(families, MetricType::Gauge, "process_virtual_memory_bytes", "Virtual memory of the exporter.",
        static_cast<double>(statm->size_pages) * page_bytes);
  }
  if (const auto start = StartTimeSeconds(root)) {
    Add(families, MetricType::Gauge, "process_start_time_seconds", "When the exporter started, since the epoch.",
        *start);
  }
  if (const auto open = OpenDescriptors(root)) {
    Add(families, MetricType::Gauge, "process_open_fds", "File descriptors that the exporter has open.", *open);
  }
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    Add(families, MetricType::Gauge, "process_max_fds", "File descriptors that the exporter may open.",
        static_cast<double>(limit.rlim_cur));
  }
}

}  // namespace

SelfMetrics::SelfMetrics(std::string version, bool with_process_metrics,
                         std::chrono::system_clock::time_point configured_at)
    : version_(std::move(version)), with_process_metrics_(with_process_metrics), configured_at_(configured_at) {}

void SelfMetrics::NoteReload(bool successful, std::chrono::system_clock::time_point now) {
  reload_successful_ = successful;
  if (successful) configured_at_ = now;
}

void SelfMetrics::Append(const ScanStatistics& scan, std::vector<MetricFamily>& families) const {
  if (scan.last_duration) {
    Add(families, MetricType::Gauge, "cow_scan_duration_seconds",
        "Wall time of the last completed pass, waiting for its CPU budget included.", scan.last_duration->count());
  }
  Add(families, MetricType::Counter, "cow_scan_cpu_seconds_total", "CPU time of the scanning thread.",
      scan.cpu.count());
  if (scan.early_passes) {
    Add(families, MetricType::Counter, "cow_scan_early_passes_total",
        "Passes that did not wait for their tick, because a known process had forked.",
        static_cast<double>(*scan.early_passes));
  }
  Add(families, MetricType::Gauge, "cow_exporter_build_info", "Constant 1; the version is in the label.", 1,
      {{"version", version_}});
  Add(families, MetricType::Gauge, "cow_exporter_config_last_reload_successful",
      "Whether the last reading of the configuration succeeded.", reload_successful_ ? 1 : 0);
  Add(families, MetricType::Gauge, "cow_exporter_config_last_reload_success_timestamp_seconds",
      "When the configuration in force was read, since the epoch.",
      std::chrono::duration<double>(configured_at_.load().time_since_epoch()).count());
  if (with_process_metrics_) AddProcess(families);
}

}  // namespace cow::exporter
