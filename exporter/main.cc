// The program. Only wires the parts together.
#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <exception>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "collectors/engine/engine.h"
#include "collectors/procfs/root.h"
#include "config/config.h"
#include "exporter/build_info/build_info.h"
#include "exporter/command_line.h"
#include "exporter/explain/command.h"
#include "exporter/front/front.h"
#include "exporter/front/launcher.h"
#include "exporter/http/health_check.h"
#include "exporter/http/web_access.h"
#include "exporter/log/log.h"
#include "exporter/permitted_capabilities.h"
#include "exporter/scan/once.h"
#include "exporter/scan/self_metrics.h"
#include "exporter/serve.h"
#include "exporter/settings.h"
#include "exporter/writers/command.h"

namespace cow::exporter {
namespace {

// Prints text for a person. Ignores write errors.
void Print(std::FILE* out, const std::string& text) { std::fwrite(text.data(), 1, text.size(), out); }

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

// Names what --config.check found valid.
std::string CheckedText(const CommandLine& command_line) {
  std::string text;
  for (const std::string& file : {command_line.config_file, command_line.web_config_file}) {
    if (!file.empty()) text += "SUCCESS: " + file + " is valid\n";
  }
  return text.empty() ? "SUCCESS: the flags are valid; no configuration file is given\n" : text;
}

int Run(std::span<const char* const> arguments) {
  UsePermittedCapabilities();
  const std::vector<collectors::CollectorInfo> available = collectors::AvailableCollectors();
  const BuildInfo build = GetBuildInfo();
  const auto parsed = ParseCommandLine(arguments, available, build);
  if (const auto* early = std::get_if<EarlyExit>(&parsed)) {
    Print(early->code == 0 ? stdout : stderr, early->text);
    return early->code;
  }
  const auto& command_line = std::get<CommandLine>(parsed);

  if (command_line.health_check) return RunHealthCheck(command_line);
  const config::LoadResult loaded = LoadConfig(command_line, available);
  for (const config::ConfigError& error : loaded.errors) Print(stderr, error.ToString() + "\n");
  if (command_line.explain) {
    if (!loaded.errors.empty()) return kExitFailed;
    ExplainOptions options = *command_line.explain;
    options.groups = {loaded.config.groups, loaded.config.default_group};
    options.label_value_length = loaded.config.limits.label_value_length;
    return options.writers ? RunWriters(options, stdout, stderr) : RunExplain(options, stdout, stderr);
  }
  Log log = Log::ToStderr(command_line.log_level, command_line.log_format);
  if (!command_line.web_config_file.empty()) {
    try {
      const WebAccess check(WebFilesReader(command_line.web_config_file).Read(), log);
    } catch (const WebAccessError& error) {
      Print(stderr, std::string(error.what()) + "\n");
      return kExitFailed;
    }
  }
  if (!loaded.errors.empty()) return kExitFailed;
  if (command_line.check_config) {
    Print(stdout, CheckedText(command_line));
    return 0;
  }

  const Settings settings = MakeSettings(command_line, loaded.config, available);
  SelfMetrics self_metrics(build, command_line.process_metrics, std::chrono::system_clock::now(),
                           [&log] { return log.DroppedLines(); });
  std::signal(SIGPIPE, SIG_IGN);
  try {
    if (command_line.once) {
      EngineRunner runner(procfs::Root(command_line.procfs, command_line.sysfs), settings.engine);
      return RunOnce(runner, self_metrics, stdout, log) ? 0 : kExitFailed;
    }
    return Serve(command_line, settings, available, self_metrics, build.version, log) ? 0 : kExitFailed;
  } catch (const std::exception& error) {
    log.Error("fatal error", {{"error", error.what()}});
    return kExitFailed;
  }
}

}  // namespace
}  // namespace cow::exporter

int main(int argc, char** argv) {
  using cow::exporter::kFrontCommand;
  using cow::exporter::kLauncherCommand;
  try {
    const std::vector<std::string> arguments(argv + std::min(argc, 2), argv + argc);
    if (argc > 1 && std::string_view(argv[1]) == kFrontCommand) return cow::exporter::RunFront();
    if (argc > 1 && std::string_view(argv[1]) == kLauncherCommand) return cow::exporter::RunLauncher(arguments);
    return cow::exporter::Run({argv, static_cast<size_t>(argc)});
  } catch (const std::exception& error) {
    std::fprintf(stderr, "cow_exporter: %s\n", error.what());
    return cow::exporter::kExitFailed;
  }
}
