// The configuration file: YAML to plain structs. Defaults are the structs' initial values; `reference.yml` lists them.
//
// Loading checks the whole file and reports all errors at once, with line and column. Throws only bad_alloc. Any
// thread.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "collectors/base/group_rule.h"
#include "config/units.h"

namespace cow::config {

inline constexpr size_t kMaxScanThreads = 64;

struct ScanConfig {
  std::chrono::milliseconds interval = std::chrono::seconds{10};    // 0: run a pass at each scrape
  double max_cpu = 0.1;                                             // share of one CPU, 0: no limit
  std::chrono::milliseconds full_every = std::chrono::minutes{10};  // read everything at least this often
  size_t threads = 1;
};

struct LimitsConfig {
  size_t max_groups = 200;
  size_t max_processes = 20000;
  size_t label_value_length = 128;  // bytes
  uint64_t ledger_bytes = uint64_t{256} << 20U;
  uint64_t ring_bytes = uint64_t{8} << 20U;
};

struct CollectorConfig {
  bool enabled = true;
  std::map<std::string, std::string> options;  // as written; KnownOption::problem accepted them
};

struct Config {
  ScanConfig scan;
  LimitsConfig limits;
  std::map<std::string, CollectorConfig> collectors;  // only collectors that the file names
  std::vector<GroupRule> groups;                      // the first match wins; cmdline captures all matches of names
  std::optional<GroupName> default_group = GroupOptions().default_name;  // for all others; empty: drop them
};

// An option of a collector.
struct KnownOption {
  std::string name;
  // Returns what is wrong with a value, if anything, as one phrase.
  std::function<std::optional<std::string>(std::string_view)> problem;
};

// A collector that the file may name, with its options.
struct KnownCollector {
  std::string name;
  std::vector<KnownOption> options;
};

struct ConfigError {
  std::string file;
  int line = 0;  // from 1; 0: the file could not be read
  int column = 0;
  std::string message;

  // "file:line:column: message", or "file: message" without a line.
  [[nodiscard]] std::string ToString() const;
};

struct LoadResult {
  Config config;  // valid only if there are no errors
  std::vector<ConfigError> errors;
};

// `file` appears only in errors.
LoadResult ParseConfig(std::string_view text, const std::string& file, const std::vector<KnownCollector>& collectors);
// Rejects files larger than 1 MiB and files that are not regular.
LoadResult LoadConfig(const std::string& path, const std::vector<KnownCollector>& collectors);

// Parsers of values that are also flags.
Parsed<std::chrono::milliseconds> ParseScanInterval(std::string_view text);
Parsed<double> ParseMaxCpu(std::string_view text);
Parsed<std::chrono::milliseconds> ParseFullEvery(std::string_view text);
Parsed<size_t> ParseScanThreads(std::string_view text);

}  // namespace cow::config
