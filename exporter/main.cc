// The program. Only wires the parts together.
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "collectors/engine/engine.h"
#include "collectors/procfs/root.h"
#include "collectors/procfs/system.h"
#include "config/config.h"
#include "exporter/command_line.h"
#include "exporter/explain/api.h"
#include "exporter/explain/command.h"
#include "exporter/http/descriptor_budget.h"
#include "exporter/http/health_check.h"
#include "exporter/http/origin_check.h"
#include "exporter/http/server.h"
#include "exporter/http/web_access.h"
#include "exporter/log/log.h"
#include "exporter/permitted_capabilities.h"
#include "exporter/reload.h"
#include "exporter/scan/once.h"
#include "exporter/scan/scan_loop.h"
#include "exporter/scan/self_metrics.h"
#include "exporter/service_manager.h"
#include "exporter/settings.h"
#include "exporter/signals.h"

namespace cow::exporter {
namespace {

constexpr const char* kVersion = COW_EXPORTER_VERSION;

// Prints text for a person. Ignores write errors.
void Print(std::FILE* out, const std::string& text) { std::fwrite(text.data(), 1, text.size(), out); }

std::vector<ListenSocket> OpenSockets(const CommandLine& command_line) {
  if (command_line.systemd_socket) return AdoptSystemdSockets();
  std::vector<ListenSocket> sockets;
  for (const ListenAddress& address : command_line.listen_addresses) sockets.emplace_back(address);
  return sockets;
}

// Divides the limit of descriptors: half of it is for files and page tables of processes, the rest for this program and
// for connections.
class DescriptorDivision {
 public:
  explicit DescriptorDivision(size_t sockets)
      : limit_(procfs::RaiseDescriptorLimit()), connections_(MaxConnections(limit_, kOwn + 2 * sockets + limit_ / 2)) {}

  void ApplyTo(ConnectionTable::Limits& limits) const {
    limits.connections = connections_;
    limits.per_client = MaxConnectionsPerClient(connections_);
  }
  void WriteTo(Log& log) const {
    log.Info("file descriptors", {{"limit", std::to_string(limit_)},
                                  {"processes", std::to_string(limit_ / 2)},
                                  {"connections", std::to_string(connections_)},
                                  {"connections_per_client", std::to_string(MaxConnectionsPerClient(connections_))}});
  }

 private:
  static constexpr size_t kOwn = 14;  // standard streams, kernel files, netlink sockets, events

  const uint64_t limit_;
  const size_t connections_;
};

void Serve(const CommandLine& command_line, const Settings& settings,
           const std::vector<collectors::CollectorInfo>& available, SelfMetrics& self_metrics, WebAccess* access,
           Log& log) {
  std::vector<std::string> host_names = HostNames();
  Signals signals([&log] {
    log.Info("ending without waiting for a blocked call");
    log.Flush();
  });
  std::vector<ListenSocket> sockets = OpenSockets(command_line);

  ScanLoop loop(
      std::make_unique<EngineRunner>(procfs::Root(command_line.procfs, command_line.sysfs), settings.engine),
      settings.scan,
      [&self_metrics](const ScanStatistics& statistics, auto& writer) { self_metrics.Append(statistics, writer); },
      log);
  Reloader reloader(command_line, available, settings, loop, self_metrics, log);
  ServerOptions options;
  options.telemetry_path = command_line.telemetry_path;
  options.max_requests = command_line.max_requests;
  options.version = kVersion;
  options.enable_api = command_line.enable_api;
  options.external_url = command_line.external_url;
  options.host_names = std::move(host_names);
  for (const collectors::CollectorInfo& info : available) options.collectors.push_back(info.name);
  Api api(procfs::Root(command_line.procfs, command_line.sysfs), [&loop] { return loop.Latest(); });
  ServiceManager service_manager;
  const auto reload = [&reloader, &service_manager] {
    return service_manager.Reload([&reloader] { return reloader.Reload(); });
  };
  ServerCallbacks callbacks;
  callbacks.scrape = [&loop](auto deadline) { return loop.Scrape(deadline); };
  callbacks.latest = [&loop] { return loop.Latest(); };
  callbacks.groups = [&loop] { return loop.Groups(); };
  callbacks.ready = [&loop] { return loop.Ready(); };
  if (command_line.lifecycle) callbacks.reload = reload;
  callbacks.config = [&reloader] { return reloader.Yaml(); };
  callbacks.api = [&api](const ApiRequest& request) { return api.Answer(request); };
  const DescriptorDivision descriptors(sockets.size());
  descriptors.ApplyTo(options.limits);
  Server server(std::move(options), std::move(callbacks), log, access);
  log.Info("starting", {{"version", kVersion}});
  loop.Start();
  std::string addresses;
  for (ListenSocket& socket : sockets) {
    addresses.append(addresses.empty() ? "" : ", ").append(socket.Address());
    server.Listen(std::move(socket));
  }
  descriptors.WriteTo(log);
  service_manager.StartWatchdog([&loop](std::chrono::microseconds within) { return loop.IsAlive(within); });
  service_manager.Ready("listening on " + addresses);

  int signal = 0;
  while ((signal = signals.Wait()) == SIGHUP) reload();
  service_manager.Stopping();
  log.Info("ending", {{"signal", signal == SIGINT ? "SIGINT" : "SIGTERM"}});
  loop.Stop();
  api.Stop();
  server.Stop();
}

// Prints one line per address. Succeeds only if all are healthy.
int RunHealthCheck(const CommandLine& command_line) {
  config::WebLoadResult web;
  if (!command_line.web_config_file.empty()) web = config::LoadWebConfig(command_line.web_config_file);
  for (const config::ConfigError& error : web.errors) Print(stderr, error.ToString() + "\n");
  if (!web.errors.empty()) return kExitFailed;
  int code = 0;
  for (const ListenAddress& address : command_line.listen_addresses) {
    const auto problem = CheckHealth(address, web.config);
    Print(problem ? stderr : stdout, FormatListenAddress(address) + ": " + problem.value_or("healthy") + "\n");
    if (problem) code = kExitFailed;
  }
  return code;
}

int Run(std::span<const char* const> arguments) {
  UsePermittedCapabilities();
  const std::vector<collectors::CollectorInfo> available = collectors::AvailableCollectors();
  const auto parsed = ParseCommandLine(arguments, available, kVersion);
  if (const auto* early = std::get_if<EarlyExit>(&parsed)) {
    Print(early->code == 0 ? stdout : stderr, early->text);
    return early->code;
  }
  const auto& command_line = std::get<CommandLine>(parsed);

  if (command_line.health_check) return RunHealthCheck(command_line);
  if (command_line.explain) return RunExplain(*command_line.explain, stdout, stderr);

  const config::LoadResult loaded = LoadConfig(command_line, available);
  for (const config::ConfigError& error : loaded.errors) Print(stderr, error.ToString() + "\n");
  Log log = Log::ToStderr(command_line.log_level, command_line.log_format);
  std::optional<WebAccess> access;
  try {
    if (!command_line.web_config_file.empty()) access.emplace(command_line.web_config_file, log);
  } catch (const WebAccessError& error) {
    Print(stderr, std::string(error.what()) + "\n");
    return kExitFailed;
  }
  if (!loaded.errors.empty()) return kExitFailed;
  if (command_line.check_config) return 0;

  const Settings settings = MakeSettings(command_line, loaded.config, available);
  SelfMetrics self_metrics(kVersion, command_line.process_metrics, std::chrono::system_clock::now(),
                           [&log] { return log.DroppedLines(); });
  std::signal(SIGPIPE, SIG_IGN);
  try {
    if (command_line.once) {
      EngineRunner runner(procfs::Root(command_line.procfs, command_line.sysfs), settings.engine);
      return RunOnce(runner, self_metrics, stdout, log) ? 0 : kExitFailed;
    }
    Serve(command_line, settings, available, self_metrics, access ? &*access : nullptr, log);
    return 0;
  } catch (const std::exception& error) {
    log.Error("fatal error", {{"error", error.what()}});
    return kExitFailed;
  }
}

}  // namespace
}  // namespace cow::exporter

int main(int argc, char** argv) {
  try {
    return cow::exporter::Run({argv, static_cast<size_t>(argc)});
  } catch (const std::exception& error) {
    std::fprintf(stderr, "cow_exporter: %s\n", error.what());
    return cow::exporter::kExitFailed;
  }
}
