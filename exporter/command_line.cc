#include "exporter/command_line.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <functional>
#include <limits>
#include <memory>
#include <sstream>
#include <utility>

#include "config/config.h"
#include "config/hint.h"
#include "config/units.h"
#include "exporter/explain/arguments.h"
#include "exporter/explain/command_line.h"
#include "exporter/help_formatter.h"
#include "exporter/http/host_name.h"

namespace cow::exporter {
namespace {

using config::Parsed;
using config::Quoted;

// Accepts only characters that need no escaping in a URI or in HTML.
Parsed<std::string> ParseTelemetryPath(std::string_view text) {
  const bool clean = std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view("/-._~").find(c) != std::string_view::npos;
  });
  if (!clean || text.size() < 2 || text.front() != '/') {
    return tl::unexpected("bad path " + Quoted(text) + ": expected / and then letters, digits, or any of /-._~");
  }
  if (text == "/-/healthy" || text == "/-/ready" || text == "/-/reload" || text == "/config" || text == kApiFamilies ||
      text == kApiExplain) {
    return tl::unexpected("the path " + Quoted(text) + " is reserved");
  }
  return std::string(text);
}

Parsed<std::string> ParseExternalUrl(std::string_view text) {
  if (!ParseOrigin(text))
    return tl::unexpected("bad URL " + Quoted(text) + ": expected http://HOST[:PORT] or https://");
  return std::string(text);
}

Parsed<size_t> ParseMaxRequests(std::string_view text) {
  return config::ParseIntegerIn(text, 1, std::numeric_limits<uint32_t>::max());
}

Parsed<LogLevel> ParseLogLevel(std::string_view text) {
  for (const auto& [name, level] : kLogLevels) {
    if (text == name) return level;
  }
  return tl::unexpected("unknown level " + Quoted(text) + " (known: debug, info, warn, error)");
}

Parsed<LogFormat> ParseLogFormat(std::string_view text) {
  if (text == "logfmt") return LogFormat::kLogfmt;
  if (text == "json") return LogFormat::kJson;
  return tl::unexpected("unknown format " + Quoted(text) + " (known: logfmt, json)");
}

Parsed<SandboxMode> ParseSandboxMode(std::string_view text) {
  if (text == "auto") return SandboxMode::kAuto;
  if (text == "off") return SandboxMode::kOff;
  if (text == "require") return SandboxMode::kRequire;
  return tl::unexpected("unknown mode " + Quoted(text) + " (known: auto, off, require)");
}

constexpr const char* kExplain = "explain";
constexpr const char* kDescription =
    "Prometheus exporter that makes copy-on-write memory visible: which memory processes still share since a fork, and "
    "how fast they lose it.\n"
    "\n"
    "Examples:\n"
    "  cow_exporter explain redis-server       who shares and copies what, now\n"
    "  cow_exporter explain --group gunicorn   the same, by the group of the metrics\n"
    "  cow_exporter --once | grep exposure     one pass, metrics to standard output\n"
    "  cow_exporter                            serve http://localhost:10066/metrics\n"
    "  cow_exporter --web.listen-address=127.0.0.1:10066\n"
    "                                          serve to this host only";

constexpr const char* kFooter =
    "By default the exporter listens on port 10066 of all interfaces, without TLS and password. Every host that "
    "reaches "
    "the port sees the names of services, programs, units and containers, the sizes of their memory, and the "
    "configuration without secrets. It sees no content of memory and no addresses. Limit access with "
    "--web.listen-address, --web.config.file or a firewall.";

CLI::Option* AddFlag(CLI::App& app, const std::string& name, const std::string& help, bool& target) {
  return app.add_flag(name, target, help)->disable_flag_override();
}

// Each collector has two flags. --help shows both on one line, so one of them is hidden.
void AddCollectors(CLI::App& app, const std::vector<collectors::CollectorInfo>& infos, CommandLine& result) {
  constexpr const char* kGroup = "Collectors (on by default, unless marked off)";
  for (const collectors::CollectorInfo& info : infos) {
    const std::string name(info.name);
    const auto add = [&app, &result, &name](const std::string& flag, const std::string& help, bool value) {
      const auto set = [&result, name, flag, value](int64_t /*count*/) {
        if (!result.collectors.emplace(name, value).second) {
          throw CLI::ValidationError(flag, "the same collector is also switched " + std::string(value ? "off" : "on"));
        }
      };
      return app.add_flag_function(flag, set, help)->disable_flag_override();
    };
    add("--collector." + name, std::string(info.help) + (info.enabled_by_default ? "" : " (off)"), true)->group(kGroup);
    add("--no-collector." + name, "", false)->group("");
  }
  AddFlag(app, "--collector.disable-defaults", "Run only collectors that a flag or the configuration switches on",
          result.disable_default_collectors)
      ->group(kGroup);
}

void AddWebFlags(CLI::App& app, CommandLine& result) {
  constexpr const char* kGroup = "Web";
  const auto add_address = [&result](const std::vector<std::string>& texts) {
    for (const std::string& text : texts) {
      const auto address = ParseListenAddress(text);
      if (!address) throw CLI::ValidationError("--web.listen-address", address.error());
      result.listen_addresses.push_back(*address);
    }
  };
  app.add_option_function<std::vector<std::string>>(
         "--web.listen-address", add_address,
         "Address to listen on, repeatable: :PORT, ADDRESS:PORT, [ADDRESS]:PORT, unix:PATH (default: :10066, all "
         "interfaces)")
      ->type_name("ADDRESS")
      ->expected(1)
      ->allow_extra_args(false)
      ->take_all()
      ->group(kGroup);
  AddFlag(app, "--web.systemd-socket", "Listen only on the sockets that systemd passes", result.systemd_socket)
      ->group(kGroup);
  AddValue(app, "--web.config.file", "FILE",
           "Web configuration file (TLS, client certificates, users, headers, rate limit) in the format of "
           "Prometheus' exporter-toolkit",
           &ParsePath, result.web_config_file)
      ->group(kGroup);
  AddValue(app, "--web.external-url", "URL",
           "URL under which browsers reach the exporter; /config and /-/reload accept its host besides addresses, "
           "localhost and the machine's own names",
           &ParseExternalUrl, result.external_url)
      ->group(kGroup);
  AddValue(app, "--web.telemetry-path", "PATH", "Path of the metrics (default: /metrics)", &ParseTelemetryPath,
           result.telemetry_path)
      ->group(kGroup);
  AddValue(app, "--web.max-requests", "N", "Maximum concurrent metrics requests; answer 503 beyond it (default: 40)",
           &ParseMaxRequests, result.max_requests)
      ->group(kGroup);
  app.add_flag_callback(
         "--web.disable-exporter-metrics", [&result] { result.process_metrics = false; },
         "Do not export process_*; keep the metrics of scanning and scraping")
      ->disable_flag_override()
      ->group(kGroup);
  AddFlag(app, "--web.enable-api", "Serve /api/v1 on TCP too; it shows address layouts (default: unix sockets only)",
          result.enable_api)
      ->group(kGroup);
  AddFlag(app, "--web.enable-lifecycle",
          "Reload the configuration on POST or PUT to /-/reload, unless a browser sends it for another site",
          result.lifecycle)
      ->group(kGroup);
  AddValue(app, "--sandbox", "MODE",
           "Confine the serving processes: auto (as far as the kernel can), off (for debugging), or require (do not "
           "start without it) (default: auto)",
           &ParseSandboxMode, result.sandbox)
      ->group(kGroup);
}

void AddScanFlags(CLI::App& app, CommandLine& result) {
  constexpr const char* kGroup = "Scanning";
  AddValue(app, "--scan.interval", "DURATION", "Time between passes; 0 runs a pass at each scrape (default: 10s)",
           &config::ParseScanInterval, result.scan_interval)
      ->group(kGroup);
  AddValue(app, "--scan.max-cpu", "SHARE", "Share of one CPU for scanning; 0 sets no limit (default: 0.1)",
           &config::ParseMaxCpu, result.scan_max_cpu)
      ->group(kGroup);
  AddValue(app, "--scan.full-every", "DURATION", "Read each process at least this often (default: 10m)",
           &config::ParseFullEvery, result.scan_full_every)
      ->group(kGroup);
  AddValue(app, "--scan.threads", "N", "Number of families to scan in parallel, 1 to 64 (default: 1)",
           &config::ParseScanThreads, result.scan_threads)
      ->group(kGroup);
  AddPathFlags(app, result.procfs, result.sysfs, kGroup);
}

void AddFlags(CLI::App& app, const std::vector<collectors::CollectorInfo>& collectors, CommandLine& result) {
  AddValue(app, "--config.file", "FILE", "Configuration file (YAML); flags override its keys", &ParsePath,
           result.config_file);
  AddFlag(app, "--config.check", "Check the configuration, print SUCCESS or its errors, and exit with 0 or 1",
          result.check_config);
  AddFlag(app, "--once", "Run one pass, write the metrics to standard output and exit", result.once);
  AddFlag(
      app, "--web.healthcheck",
      "Request /-/healthy from the exporter that runs with the same --web.listen-address and --web.config.file, and "
      "exit with 0 or 1",
      result.health_check);
  AddWebFlags(app, result);
  AddScanFlags(app, result);
  AddCollectors(app, collectors, result);
  constexpr const char* kLog = "Logging";
  AddValue(app, "--log.level", "LEVEL", "debug, info, warn or error (default: info)", &ParseLogLevel, result.log_level)
      ->group(kLog);
  AddValue(app, "--log.format", "FORMAT", "logfmt or json (default: logfmt)", &ParseLogFormat, result.log_format)
      ->group(kLog);
}

// The flags of an app without their dashes.
std::vector<std::string> FlagNames(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options()) {
    const std::vector<std::string>& of_option = option->get_lnames();
    names.insert(names.end(), of_option.begin(), of_option.end());
  }
  return names;
}

// Describes the first argument that nothing accepted.
std::string DescribeUnknown(const CLI::App& app) {
  const std::vector<CLI::App*> commands = app.get_subcommands();
  const CLI::App& of = commands.empty() ? app : *commands.front();
  const std::vector<std::string> rest = app.remaining(true);
  const std::string argument = rest.empty() ? "" : rest.front();
  if (!argument.starts_with('-')) {
    const bool is_typo = commands.empty() && config::Nearest(argument, {kExplain}) != nullptr;
    return "unexpected argument " + Quoted(argument) + (is_typo ? ": did you mean " + Quoted(kExplain) + "?" : "");
  }
  const std::string flag = argument.substr(0, argument.find('='));
  const std::vector<std::string> names = FlagNames(of);
  const std::string* nearest = config::Nearest(flag.substr(std::min(flag.find_first_not_of('-'), flag.size())), names);
  return "unknown flag " + Quoted(flag) + (nearest == nullptr ? "" : ": did you mean " + Quoted("--" + *nearest) + "?");
}

EarlyExit WrongUsage(const CLI::App& app, const std::string& text) {
  const std::string command = app.get_subcommands().empty() ? "cow_exporter" : std::string("cow_exporter ") + kExplain;
  return {kExitWrongUsage, "cow_exporter: " + text + "\nSee " + command + " --help.\n"};
}

}  // namespace

std::variant<CommandLine, EarlyExit> ParseCommandLine(std::span<const char* const> arguments,
                                                      const std::vector<collectors::CollectorInfo>& collectors,
                                                      const BuildInfo& build) {
  CommandLine result;

  CLI::App app(kDescription, "cow_exporter");
  app.formatter(std::make_shared<HelpFormatter>());
  app.footer(kFooter);
  app.option_defaults()->group("General");
  app.set_version_flag("--version", FormatBuildInfo(build), "Print the version and exit");
  app.set_help_flag("-h,--help", "Print this help and exit");
  AddFlags(app, collectors, result);
  AddExplainCommand(app, result.explain, result.config_file);
  try {
    app.parse(static_cast<int>(arguments.size()), arguments.data());
  } catch (const CLI::ExtrasError&) {
    return WrongUsage(app, DescribeUnknown(app));
  } catch (const CLI::ParseError& error) {
    std::ostringstream out;
    std::ostringstream problem;
    if (app.exit(error, out, problem) == 0) return EarlyExit{0, out.str()};
    return WrongUsage(app, error.what());
  }
  if (result.explain && HasOptions(app)) return WrongUsage(app, "flags must follow the command explain");
  if (int{result.check_config} + int{result.once} + int{result.health_check} > 1) {
    return WrongUsage(app, "--config.check, --once and --web.healthcheck exclude each other");
  }
  if (result.health_check && result.systemd_socket) {
    return WrongUsage(app, "--web.healthcheck and --web.systemd-socket exclude each other");
  }
  if (!result.listen_addresses.empty() && result.systemd_socket) {
    return WrongUsage(app,
                      "--web.listen-address and --web.systemd-socket exclude each other; systemd takes addresses from "
                      "ListenStream= of cow_exporter.socket");
  }
  if (result.listen_addresses.empty()) result.listen_addresses.push_back({"", 10066, ""});
  return result;
}

}  // namespace cow::exporter
