// Parses the command line into a plain struct. Wrong usage becomes a message. Pure functions, any thread.
#pragma once

#include <chrono>
#include <cstddef>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "collectors/engine/engine.h"
#include "exporter/build_info/build_info.h"
#include "exporter/explain/command.h"
#include "exporter/http/http_message.h"
#include "exporter/http/listen_address.h"
#include "exporter/log/log.h"
#include "exporter/sandbox/sandbox.h"

namespace cow::exporter {

inline constexpr int kExitFailed = 1;
inline constexpr int kExitWrongUsage = 2;

// An optional without a value is a flag that was not given; the configuration's key or its default applies.
struct CommandLine {
  std::string config_file;  // empty: none
  bool check_config = false;
  bool once = false;
  bool health_check = false;
  std::vector<ListenAddress> listen_addresses;  // never empty
  bool systemd_socket = false;                  // in place of listen_addresses
  std::string web_config_file;                  // empty: none
  std::string telemetry_path = "/metrics";
  size_t max_requests = 40;
  std::string external_url;  // empty: none
  bool process_metrics = true;
  bool enable_api = false;  // serve /api/v1 on TCP too
  bool lifecycle = false;   // allow /-/reload
  std::string procfs = "/proc";
  std::string sysfs = "/sys";
  std::optional<std::chrono::milliseconds> scan_interval;
  std::optional<double> scan_max_cpu;
  std::optional<std::chrono::milliseconds> scan_full_every;
  std::optional<size_t> scan_threads;
  std::map<std::string, bool> collectors;  // by name; only those that a flag switches on or off
  bool disable_default_collectors = false;
  std::optional<ExplainOptions> explain;  // set by the command `explain`
  SandboxMode sandbox = SandboxMode::kAuto;
  LogLevel log_level = LogLevel::kInfo;
  LogFormat log_format = LogFormat::kLogfmt;
};

// The program ends at once: --help, --version, or wrong usage.
struct EarlyExit {
  int code = 0;
  std::string text;  // print to standard output if the code is 0, else to standard error
};

std::variant<CommandLine, EarlyExit> ParseCommandLine(std::span<const char* const> arguments,
                                                      const std::vector<collectors::CollectorInfo>& collectors,
                                                      const BuildInfo& build);

}  // namespace cow::exporter
