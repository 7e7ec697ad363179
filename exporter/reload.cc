#include "exporter/reload.h"

#include <chrono>
#include <utility>

#include "config/config.h"
#include "config/to_yaml.h"

namespace cow::exporter {

Reloader::Reloader(const CommandLine& command_line, std::vector<collectors::CollectorInfo> available,
                   const Settings& in_force, ScanLoop& loop, SelfMetrics& self_metrics, Log& log,
                   std::function<void(const std::string& yaml)> changed)
    : command_line_(command_line),
      available_(std::move(available)),
      loop_(loop),
      self_metrics_(self_metrics),
      log_(log),
      changed_(std::move(changed)),
      yaml_(config::ToYaml(in_force.config)) {}

std::optional<std::string> Reloader::Reload() {
  const std::lock_guard reloading(reloading_);
  std::optional<std::string> problem = Apply();
  self_metrics_.RecordReload(!problem, std::chrono::system_clock::now());
  loop_.Refresh();
  if (problem) {
    log_.Error("reload failed, the previous configuration stays in force", {{"file", command_line_.config_file}});
  } else {
    log_.Info("configuration reloaded", {{"file", command_line_.config_file}});
  }
  return problem;
}

std::optional<std::string> Reloader::Apply() {
  const config::LoadResult loaded = LoadConfig(command_line_, available_);
  std::string problems;
  for (const config::ConfigError& error : loaded.errors) {
    log_.Error("bad configuration", {{"error", error.ToString()}});
    problems += error.ToString() + "\n";
  }
  if (!problems.empty()) return problems;
  const Settings settings = MakeSettings(command_line_, loaded.config, available_);
  std::string yaml = config::ToYaml(settings.config);
  if (yaml == yaml_) return std::nullopt;
  if (const auto problem = loop_.Reconfigure(settings.engine, settings.scan)) {
    log_.Error("bad configuration", {{"error", *problem}});
    return *problem + "\n";
  }
  yaml_ = std::move(yaml);
  changed_(yaml_);
  return std::nullopt;
}

}  // namespace cow::exporter
