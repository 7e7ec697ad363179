// The configuration in force, and how another one comes into force: all of it or nothing. What can change is what the
// file holds; flags stay and go before it.
//
// Any thread; one reload at a time.
#pragma once

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
  // `in_force`: what `loop` was made with. What is referred to outlives the reloader.
  Reloader(const CommandLine& command_line, std::vector<collectors::CollectorInfo> available, const Settings& in_force,
           ScanLoop& loop, SelfMetrics& self_metrics, Log& log);

  // Reads the file again. Empty when that is in force; else what is wrong, one line each, and what was in force is
  // still. Both are logged and in the metrics when it returns.
  std::optional<std::string> Reload();

  // What is in force, flags and defaults included, as YAML.
  std::string Yaml() const;

 private:
  std::optional<std::string> Apply();

  const CommandLine& command_line_;
  const std::vector<collectors::CollectorInfo> available_;
  ScanLoop& loop_;
  SelfMetrics& self_metrics_;
  Log& log_;
  std::mutex reloading_;
  mutable std::mutex mutex_;  // of what follows
  std::string yaml_;
};

}  // namespace cow::exporter
