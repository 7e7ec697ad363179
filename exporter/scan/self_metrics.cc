#include "exporter/scan/self_metrics.h"

#include <sys/resource.h>
#include <sys/time.h>
#include <unistd.h>

#include <filesystem>
#include <optional>
#include <string_view>
#include <system_error>
#include <utility>

#include "collectors/procfs/root.h"
#include "collectors/procfs/stat.h"
#include "collectors/procfs/statm.h"
#include "collectors/procfs/system.h"

namespace cow::exporter {
namespace {

using collectors::Metric;
using collectors::MetricWriter;
using prometheus::MetricType;

constexpr Metric kScanDuration{
    .name = "cow_scan_duration_seconds",
    .unit = "seconds",
    .help = "Wall time of the last completed pass, including waits for its CPU budget.",
    .of_groups = false,
    .absent = "Before the first completed pass.",
};
constexpr Metric kScanCpu{
    .name = "cow_scan_cpu_seconds_total",
    .type = MetricType::Counter,
    .unit = "seconds",
    .help = "CPU time of scanning and of requests to /api/v1/explain.",
    .of_groups = false,
    .query = "rate(cow_scan_cpu_seconds_total[5m])",
};
constexpr Metric kScanEarlyPasses{
    .name = "cow_scan_early_passes_total",
    .type = MetricType::Counter,
    .unit = "passes",
    .help = "Passes that began before their interval because a known process had forked.",
    .of_groups = false,
    .absent = "If the interval is 0, and with --once.",
};
constexpr Metric kFailures{
    .name = "cow_scan_failures_total",
    .type = MetricType::Counter,
    .unit = "times",
    .help = "Failed passes, fork checks and publications, by reason. The exporter repeats them at their next turn.",
    .labels = {{{"reason", kScanFailures}}},
    .of_groups = false,
    .source = "memory: an allocation failed. processes: the processes can't be listed. error: any other failure.",
    .query = "increase(cow_scan_failures_total[10m]) > 0",
};
constexpr Metric kBuildInfo{
    .name = "cow_exporter_build_info",
    .help = "Constant 1; the labels say what the program was built from.",
    .labels = {{{"version", {}, "of the program"},
                {"revision", {}, "commit; unknown if built without git and source archive"},
                {"compiler", {}, "name and version"}}},
    .of_groups = false,
};
constexpr Metric kFrontRestarts{
    .name = "cow_exporter_front_restarts_total",
    .type = MetricType::Counter,
    .unit = "restarts",
    .help = "Starts of a new front (the process that serves HTTP) after the previous one had ended.",
    .of_groups = false,
    .query = "increase(cow_exporter_front_restarts_total[1h]) > 0",
};
constexpr Metric kReloadSuccessful{
    .name = "cow_exporter_config_last_reload_successful",
    .help = "1 if the configuration was last read without errors, else 0.",
    .of_groups = false,
    .query = "cow_exporter_config_last_reload_successful == 0",
};
constexpr Metric kReloadTimestamp{
    .name = "cow_exporter_config_last_reload_success_timestamp_seconds",
    .unit = "seconds since the epoch",
    .help = "Time when the current configuration was read.",
    .of_groups = false,
};

constexpr Metric kLogDroppedLines{
    .name = "cow_exporter_log_dropped_lines_total",
    .type = MetricType::Counter,
    .unit = "lines",
    .help = "Log lines that standard error did not take in time.",
    .of_groups = false,
    .query = "increase(cow_exporter_log_dropped_lines_total[10m]) > 0",
};

constexpr Metric ProcessMetric(std::string_view name, std::string_view unit, std::string_view help,
                               MetricType type = MetricType::Gauge) {
  return {.name = name,
          .type = type,
          .unit = unit,
          .help = help,
          .of_groups = false,
          .absent = "With --web.disable-exporter-metrics."};
}
constexpr Metric kProcessCpu = ProcessMetric("process_cpu_seconds_total", "seconds",
                                             "User and system CPU time of the exporter.", MetricType::Counter);
constexpr Metric kProcessResident =
    ProcessMetric("process_resident_memory_bytes", "bytes", "Resident memory of the exporter.");
constexpr Metric kProcessVirtual =
    ProcessMetric("process_virtual_memory_bytes", "bytes", "Virtual memory of the exporter.");
constexpr Metric kProcessStart =
    ProcessMetric("process_start_time_seconds", "seconds since the epoch", "Time when the exporter started.");
constexpr Metric kProcessOpenFds =
    ProcessMetric("process_open_fds", "descriptors", "Open file descriptors of the exporter.");
constexpr Metric kProcessMaxFds =
    ProcessMetric("process_max_fds", "descriptors", "Limit of open file descriptors of the exporter.");

void Add(MetricWriter& writer, const Metric& metric, std::optional<double> value) {
  writer.Begin(metric);
  if (value) writer.Add({}, *value);
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
  double count = -1;  // exclude the descriptor that lists the directory
  auto entry = std::filesystem::directory_iterator(root.ProcPath("self/fd"), error);
  for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) ++count;
  if (error) return std::nullopt;
  return count;
}

std::optional<double> CpuSeconds() {
  rusage usage{};
  if (getrusage(RUSAGE_SELF, &usage) != 0) return std::nullopt;
  return Seconds(usage.ru_utime) + Seconds(usage.ru_stime);
}

std::optional<double> MaxDescriptors() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return std::nullopt;
  return static_cast<double>(limit.rlim_cur);
}

void AddProcess(MetricWriter& writer) {
  const procfs::Root root;
  Add(writer, kProcessCpu, CpuSeconds());
  const auto statm = procfs::ReadStatm(root, getpid());
  const auto bytes = [&statm](uint64_t procfs::Statm::*pages) {
    return statm ? std::optional(static_cast<double>((*statm).*pages) * static_cast<double>(sysconf(_SC_PAGESIZE)))
                 : std::nullopt;
  };
  Add(writer, kProcessResident, bytes(&procfs::Statm::resident_pages));
  Add(writer, kProcessVirtual, bytes(&procfs::Statm::size_pages));
  Add(writer, kProcessStart, StartTimeSeconds(root));
  Add(writer, kProcessOpenFds, OpenDescriptors(root));
  Add(writer, kProcessMaxFds, MaxDescriptors());
}

}  // namespace

SelfMetrics::SelfMetrics(BuildInfo build, bool with_process_metrics,
                         std::chrono::system_clock::time_point configured_at, DroppedLines dropped_lines)
    : build_(std::move(build)),
      with_process_metrics_(with_process_metrics),
      dropped_lines_(std::move(dropped_lines)),
      configured_at_(configured_at) {}

void SelfMetrics::RecordReload(bool successful, std::chrono::system_clock::time_point now) {
  reload_successful_ = successful;
  if (successful) configured_at_ = now;
}

void SelfMetrics::Append(const ScanStatistics& scan, MetricWriter& writer) const {
  const auto& duration = scan.last_duration;
  Add(writer, kScanDuration, duration ? std::optional(duration->count()) : std::nullopt);
  Add(writer, kScanCpu, scan.cpu.count());
  Add(writer, kScanEarlyPasses, scan.early_passes);
  writer.Begin(kFailures);
  for (size_t reason = 0; reason < kScanFailures.size(); ++reason) {
    writer.Add({kScanFailures.at(reason)}, static_cast<double>(scan.failures.at(reason)));
  }
  writer.Begin(kBuildInfo);
  writer.Add({build_.version, build_.revision, build_.compiler}, 1);
  Add(writer, kFrontRestarts, static_cast<double>(front_restarts_));
  Add(writer, kReloadSuccessful, reload_successful_ ? 1 : 0);
  Add(writer, kReloadTimestamp, std::chrono::duration<double>(configured_at_.load().time_since_epoch()).count());
  Add(writer, kLogDroppedLines, static_cast<double>(dropped_lines_()));
  if (with_process_metrics_) AddProcess(writer);
}

}  // namespace cow::exporter
