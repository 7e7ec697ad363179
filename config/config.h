// The configuration file: YAML to plain structs. Defaults are the structs' initial values; `reference.yml` shows them
// all.
//
// Loading checks the whole file and reports every error at once, with line and column. It throws nothing but bad_alloc.
// The structs are plain values; any thread.
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

#include "config/name_template.h"
#include "config/units.h"

namespace cow::config {

inline constexpr size_t kMaxScanThreads = 64;

struct ScanConfig {
  std::chrono::milliseconds interval = std::chrono::seconds{10};    // 0: a pass at each scrape
  double max_cpu = 0.1;                                             // share of one CPU, 0: no limit
  std::chrono::milliseconds full_every = std::chrono::minutes{10};  // everything is read at least this often
  size_t threads = 1;
};

struct LimitsConfig {
  size_t max_groups = 200;
  size_t max_processes = 20000;
  size_t label_value_length = 128;  // bytes
  uint64_t ledger_bytes = uint64_t{256} << 20U;
};

struct CollectorConfig {
  bool enabled = true;
  std::map<std::string, std::string> options;  // as written, and found good by KnownOption::problem
};

// Who belongs to a group: the keys are ANDed, entries of a list ORed, those of `cmdline` ANDed. An empty list asks for
// nothing. All of it was found good: regular expressions compile, matches in the name are captured by `cmdline`.
struct GroupConfig {
  NameTemplate name;
  std::vector<std::string> comm;          // whole names
  std::vector<std::string> exe;           // absolute paths or base names
  std::vector<std::string> cmdline;       // RE2
  std::vector<std::string> user;          // names or numbers
  std::vector<std::string> cgroup;        // RE2
  std::vector<std::string> unit;          // whole names
  std::vector<std::string> container_id;  // prefixes
};

struct Config {
  ScanConfig scan;
  LimitsConfig limits;
  std::map<std::string, CollectorConfig> collectors;               // only those that the file names
  std::vector<GroupConfig> groups;                                 // the first that matches counts
  std::optional<NameTemplate> default_group = DefaultGroupName();  // of all others; empty: they are left out
};

// An option of a collector.
struct KnownOption {
  std::string name;
  // What is wrong with a value, in the words of units.h; empty if nothing is.
  std::function<std::optional<std::string>(std::string_view)> problem;
};

// A collector that the file may name, and the options it takes.
struct KnownCollector {
  std::string name;
  std::vector<KnownOption> options;
};

struct ConfigError {
  std::string file;
  int line = 0;  // from 1; 0 where the file could not be read at all
  int column = 0;
  std::string message;

  // "file:line:column: message", or "file: message" where there is no line.
  [[nodiscard]] std::string ToString() const;
};

struct LoadResult {
  Config config;  // to be used only if there are no errors
  std::vector<ConfigError> errors;
};

// `file` is only named in errors.
LoadResult ParseConfig(std::string_view text, const std::string& file, const std::vector<KnownCollector>& collectors);
// Files of more than 1 MiB are refused.
LoadResult LoadConfig(const std::string& path, const std::vector<KnownCollector>& collectors);

// The values that have a flag too: form and range are checked in one place.
Parsed<std::chrono::milliseconds> ParseScanInterval(std::string_view text);
Parsed<double> ParseMaxCpu(std::string_view text);
Parsed<std::chrono::milliseconds> ParseFullEvery(std::string_view text);
Parsed<size_t> ParseScanThreads(std::string_view text);

}  // namespace cow::config
