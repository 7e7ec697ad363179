// Holds the configuration in force and reloads it from its file: all or nothing. Flags do not change and override the
// file.
//
// Any thread; reloads run one at a time.
#pragma once

#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "collectors/engine/engine.h"
#include "exporter/command_line.h"
#include "exporter/log/log.h"
#include "exporter/scan/scan_loop.h"
#include "exporter/scan/self_metrics.h"
#include "exporter/settings.h"

namespace cow::exporter {

class Reloader {
 public:
  // `in_force`: the settings that `loop` runs with. `changed` gets each new configuration as YAML, with flags and
  // defaults. All references must outlive the reloader.
  Reloader(const CommandLine& command_line, std::vector<collectors::CollectorInfo> available, const Settings& in_force,
           ScanLoop& loop, SelfMetrics& self_metrics, Log& log, std::function<void(const std::string& yaml)> changed);

  // Reads the file again and applies it. Returns the errors, one per line, and keeps the previous configuration if
  // there are any. Logs the outcome and publishes it in the metrics before it returns.
  std::optional<std::string> Reload();

  // The configuration in force as YAML, with flags and defaults. Call it before the first reload.
  [[nodiscard]] const std::string& Yaml() const { return yaml_; }

 private:
  std::optional<std::string> Apply();

  const CommandLine& command_line_;
  const std::vector<collectors::CollectorInfo> available_;
  ScanLoop& loop_;
  SelfMetrics& self_metrics_;
  Log& log_;
  const std::function<void(const std::string& yaml)> changed_;
  std::mutex reloading_;
  std::string yaml_;  // guarded by reloading_
};

}  // namespace cow::exporter
