#include "config/config.h"

#include <yaml-cpp/yaml.h>

#include <optional>
#include <utility>

#include "config/checker.h"
#include "config/groups.h"

namespace cow::config {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kMinInterval{10};
constexpr milliseconds kMaxInterval = std::chrono::hours{24};
constexpr milliseconds kMaxFullEvery = std::chrono::hours{24 * 30};

Parsed<milliseconds> InRange(milliseconds value, std::string_view text, milliseconds low, milliseconds high,
                             const char* range) {
  if (value < low || value > high) return tl::unexpected(Quoted(text) + " is out of range: " + range);
  return value;
}

Parsed<uint64_t> ParseLedgerBytes(std::string_view text) {
  constexpr uint64_t kMaxLedgerBytes = uint64_t{1} << 40U;
  auto bytes = ParseSize(text);
  if (!bytes || *bytes <= kMaxLedgerBytes) return bytes;
  return tl::unexpected(Quoted(text) + " is out of range: it must be at most 1TiB");
}

Parsed<uint64_t> ParseRingBytes(std::string_view text) {
  constexpr uint64_t kMinRingBytes = uint64_t{64} << 10U;
  constexpr uint64_t kMaxRingBytes = uint64_t{1} << 30U;
  auto bytes = ParseSize(text);
  if (!bytes || (kMinRingBytes <= *bytes && *bytes <= kMaxRingBytes)) return bytes;
  return tl::unexpected(Quoted(text) + " is out of range: expected 64KiB to 1GiB");
}

void ReadDocument(const YAML::Node& document, const std::vector<KnownCollector>& known, Checker& checker,
                  Config& config) {
  constexpr size_t kMaxGroups = 100'000;
  constexpr size_t kMaxProcesses = size_t{1} << 22U;  // the kernel's limit of pid_max
  constexpr size_t kMaxLabelBytes = 4096;
  constexpr const char* kDuration = "a duration such as 10s";
  constexpr const char* kSize = "a size such as 256MiB";

  ScanConfig& scan = config.scan;
  const std::vector<Checker::Key> scan_keys = {
      checker.Value("interval", kDuration, &ParseScanInterval, scan.interval),
      checker.Number("max_cpu", "a number from 0 to 1", &ParseMaxCpu, scan.max_cpu),
      checker.Value("full_every", kDuration, &ParseFullEvery, scan.full_every),
      checker.Count("threads", 1, kMaxScanThreads, scan.threads),
      checker.Removed(
          "sample_above",
          "sampling was removed: delete this key; scan.max_cpu bounds the cost, and a pass may span intervals")};

  LimitsConfig& limits = config.limits;
  const std::vector<Checker::Key> limits_keys = {
      checker.Count("max_groups", 1, kMaxGroups, limits.max_groups),
      checker.Count("max_processes", 1, kMaxProcesses, limits.max_processes),
      checker.Count("label_value_length", 1, kMaxLabelBytes, limits.label_value_length),
      checker.Value("ledger_bytes", kSize, &ParseLedgerBytes, limits.ledger_bytes),
      checker.Value("ring_bytes", kSize, &ParseRingBytes, limits.ring_bytes)};

  std::vector<Checker::Key> collector_keys;
  collector_keys.reserve(known.size());
  for (const KnownCollector& collector : known) {
    collector_keys.push_back(checker.Collector(collector, config.collectors));
  }

  checker.ReadMap(document, "",
                  {checker.Section("scan", scan_keys), checker.Section("limits", limits_keys),
                   checker.Section("collectors", collector_keys, "collector"), GroupsKey(checker, config.groups),
                   DefaultGroupKey(checker, config.default_group)});
}

}  // namespace

std::string ConfigError::ToString() const {
  std::string text = file + ":";
  if (line > 0) text += std::to_string(line) + ":" + std::to_string(column) + ":";
  return text + " " + message;
}

LoadResult ParseConfig(std::string_view text, const std::string& file, const std::vector<KnownCollector>& collectors) {
  LoadResult result;
  CheckDocument(text, file, result.errors, [&](const YAML::Node& document, Checker& checker) {
    ReadDocument(document, collectors, checker, result.config);
  });
  return result;
}

LoadResult LoadConfig(const std::string& path, const std::vector<KnownCollector>& collectors) {
  LoadResult result;
  if (const auto text = ReadConfigText(path, result.errors)) return ParseConfig(*text, path, collectors);
  return result;
}

Parsed<milliseconds> ParseScanInterval(std::string_view text) {
  return ParseDuration(text).and_then([text](milliseconds value) -> Parsed<milliseconds> {
    if (value.count() == 0) return value;
    return InRange(value, text, kMinInterval, kMaxInterval,
                   "it must be 0s (a pass at each scrape) or from 10ms to 24h");
  });
}

Parsed<double> ParseMaxCpu(std::string_view text) {
  return ParseNumber(text).and_then([text](double value) -> Parsed<double> {
    if (value >= 0 && value <= 1) return value;
    return tl::unexpected(Quoted(text) + " is out of range: it is a share of one CPU, from 0 (no limit) to 1");
  });
}

Parsed<milliseconds> ParseFullEvery(std::string_view text) {
  return ParseDuration(text).and_then([text](milliseconds value) {
    return InRange(value, text, milliseconds{0}, kMaxFullEvery, "it must be at most 30d");
  });
}

Parsed<size_t> ParseScanThreads(std::string_view text) { return ParseIntegerIn(text, 1, kMaxScanThreads); }

}  // namespace cow::config
