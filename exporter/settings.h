// What is in force once the configuration and the command line are put together. Pure functions.
#pragma once

#include <string>
#include <vector>

#include "collectors/engine/engine.h"
#include "config/config.h"
#include "exporter/command_line.h"
#include "exporter/scan/scan_loop.h"

namespace cow::exporter {

struct Settings {
  config::Config config;  // with the flags in it, and every collector
  collectors::EngineOptions engine;
  ScanLoopOptions scan;
};

// The collectors as the configuration may name them.
std::vector<config::KnownCollector> KnownCollectors(const std::vector<collectors::CollectorInfo>& available);

// A flag goes before the configuration's key, that before the default.
Settings MakeSettings(const CommandLine& command_line, const config::Config& config,
                      const std::vector<collectors::CollectorInfo>& available);

}  // namespace cow::exporter
