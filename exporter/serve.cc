#include "exporter/serve.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <memory>
#include <optional>
#include <utility>

#include "collectors/netlink/given_sockets.h"
#include "collectors/procfs/root.h"
#include "collectors/procfs/system.h"
#include "collectors/symbols/symbolizer.h"
#include "exporter/explain/api.h"
#include "exporter/front/front_keeper.h"
#include "exporter/front/launcher.h"
#include "exporter/http/descriptor_budget.h"
#include "exporter/http/origin_check.h"
#include "exporter/http/web_files.h"
#include "exporter/reload.h"
#include "exporter/sandbox/capabilities.h"
#include "exporter/sandbox/sandbox.h"
#include "exporter/scan/scan_loop.h"
#include "exporter/service_manager.h"
#include "exporter/signals.h"

namespace cow::exporter {
namespace {

SystemdSockets OpenSockets(const CommandLine& command_line) {
  if (command_line.systemd_socket) return AdoptSystemdSockets();
  SystemdSockets sockets;
  for (const ListenAddress& address : command_line.listen_addresses) sockets.listening.emplace_back(address);
  return sockets;
}

std::string JoinAddresses(const std::vector<ListenSocket>& sockets) {
  std::string addresses;
  for (const ListenSocket& socket : sockets) addresses.append(addresses.empty() ? "" : ", ").append(socket.Address());
  return addresses;
}

// Descriptors that a front needs besides its connections: standard streams, channel, events, and files on their way.
constexpr size_t kFrontDescriptors = 14;

FrontOptions MakeFrontOptions(const CommandLine& command_line, const std::vector<collectors::CollectorInfo>& available,
                              size_t sockets, uint64_t descriptors, const std::string& version) {
  FrontOptions options;
  options.server.limits.connections = MaxConnections(descriptors, kFrontDescriptors + 2 * sockets);
  options.server.limits.per_client = MaxConnectionsPerClient(options.server.limits.connections);
  options.server.host_names = HostNames();
  options.server.external_url = command_line.external_url;
  options.server.telemetry_path = command_line.telemetry_path;
  options.server.max_requests = command_line.max_requests;
  options.server.version = version;
  options.server.enable_api = command_line.enable_api;
  for (const collectors::CollectorInfo& info : available) options.server.collectors.emplace_back(info.name);
  options.lifecycle = command_line.lifecycle;
  options.has_web = !command_line.web_config_file.empty();
  options.sockets = sockets;
  options.sandbox = command_line.sandbox;
  options.log_level = command_line.log_level;
  options.log_format = command_line.log_format;
  return options;
}

void LogConfinement(const SandboxState& state, Log& log) {
  log.Info("reader confined", {{"by", InForce(state)}});
  for (const std::string& missing : state.missing) log.Warn("the reader is not fully confined", {{"missing", missing}});
}

// Each process of the service has the same limit. The engine keeps files of processes open up to a quarter of it.
void LogDescriptors(uint64_t limit, const FrontOptions& front, Log& log) {
  log.Info("file descriptors", {{"limit", std::to_string(limit)},
                                {"processes", std::to_string(limit / 4)},
                                {"connections", std::to_string(front.server.limits.connections)},
                                {"connections_per_client", std::to_string(front.server.limits.per_client)}});
}

// Starts the processes that name code, and reads the kernel's names, while this process may. Only for the collector
// `writers`.
std::shared_ptr<symbols::Symbolizer> StartSymbolizer(const collectors::EngineOptions& options) {
  const auto& names = options.collectors;
  if (std::find(names.begin(), names.end(), "writers") == names.end()) return nullptr;
  auto symbolizer = std::make_shared<symbols::Symbolizer>();
  static_cast<void>(symbolizer->ReadKernelSymbols());
  return symbolizer;
}

FrontReply ToFrontReply(ApiReply reply) { return {reply.status, std::move(reply.body)}; }

}  // namespace

bool Serve(const CommandLine& command_line, const Settings& settings,
           const std::vector<collectors::CollectorInfo>& available, SelfMetrics& self_metrics,
           const std::string& version, Log& log) {
  // Until the capabilities are dropped, nothing may be logged, because the log starts a thread.
  const uint64_t descriptors = procfs::RaiseDescriptorLimit();
  const bool sandbox_is_complete = SandboxIsComplete(command_line.sandbox);
  SystemdSockets opened = OpenSockets(command_line);
  std::vector<ListenSocket>& sockets = opened.listening;
  const std::string addresses = JoinAddresses(sockets);
  const FrontOptions front = MakeFrontOptions(command_line, available, sockets.size(), descriptors, version);
  Signals signals([&log] {
    log.Info("ending without waiting for a blocked call");
    log.Flush();
  });
  Launcher launcher(sockets, command_line.sandbox);
  collectors::EngineOptions options = settings.engine;
  options.symbolizer = StartSymbolizer(options);
  KeepOnly(kReaderCapabilities);
  log.Info("starting", {{"version", version}});
  std::unique_ptr<WebFilesReader> web;
  if (!command_line.web_config_file.empty()) web = std::make_unique<WebFilesReader>(command_line.web_config_file);

  std::optional<FrontKeeper> keeper;
  ScanEvents events;
  events.published = [&keeper](const auto& snapshot) { keeper->Publish(*snapshot); };
  events.passed = [&keeper](uint64_t pass) { keeper->Passed(pass); };
  const procfs::Root root(command_line.procfs, command_line.sysfs);
  netlink::GivenSockets netlink;
  for (procfs::FileDescriptor& socket : opened.netlink) netlink.Add(std::move(socket));
  auto runner = std::make_unique<EngineRunner>(root, options, std::move(netlink));
  EngineRunner& engine = *runner;
  ScanLoop loop(
      std::move(runner), settings.scan,
      [&self_metrics](const ScanStatistics& statistics, auto& writer) { self_metrics.Append(statistics, writer); }, log,
      std::move(events));
  Reloader reloader(command_line, available, settings, loop, self_metrics, log,
                    [&keeper](const std::string& yaml) { keeper->Configure(yaml); });
  Api api(root);
  ServiceManager service_manager;
  const auto reload = [&reloader, &service_manager] {
    return service_manager.Reload([&reloader] { return reloader.Reload(); });
  };
  std::atomic<bool> failed = false;
  ReaderServices services;
  services.want_pass = [&loop] { return loop.WantPass(); };
  if (command_line.lifecycle) services.reload = reload;
  services.families = [&loop] { return ToFrontReply(DescribeFamilies(*loop.Families())); };
  services.explain = [&api](const ExplainQuery& query) { return ToFrontReply(api.Explain(query)); };
  services.restarted = [&self_metrics] { self_metrics.RecordFrontRestart(); };
  services.failed = [&failed] {
    failed = true;
    kill(getpid(), SIGTERM);
  };
  keeper.emplace(launcher, front, std::move(web), std::move(services), log, FrontKeeper::Timing{});
  keeper->Configure(reloader.Yaml());
  const auto confine = options.symbolizer == nullptr ? &ConfineReader : &ConfineRecordingReader;
  const SandboxState state = confine(command_line.sandbox);
  engine.SetSandbox(sandbox_is_complete && state.missing.empty());
  LogConfinement(state, log);
  LogDescriptors(descriptors, front, log);
  signals.Start();
  loop.Start();
  keeper->Start();
  service_manager.StartWatchdog(
      [&loop, &keeper](std::chrono::microseconds within) { return loop.IsAlive(within) && keeper->IsAlive(within); });
  service_manager.Ready("listening on " + addresses);

  int signal = 0;
  while ((signal = signals.Wait()) == SIGHUP) reload();
  service_manager.Stopping();
  log.Info("ending", {{"signal", signal == SIGINT ? "SIGINT" : "SIGTERM"}});
  keeper->Stop();
  launcher.End();
  loop.Stop();
  api.Stop();
  keeper->EndRequests();
  return !failed;
}

}  // namespace cow::exporter
