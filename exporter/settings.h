// Merges the configuration file and the command line into the settings in force. Pure functions, any thread.
#pragma once

#include <string>
#include <vector>

#include "collectors/engine/engine.h"
#include "config/config.h"
#include "exporter/command_line.h"
#include "exporter/scan/scan_loop.h"

namespace cow::exporter {

struct Settings {
  config::Config config;  // with flags applied and every collector listed
  collectors::EngineOptions engine;
  ScanLoopOptions scan;
};

// The collectors and options that the configuration may name.
std::vector<config::KnownCollector> KnownCollectors(const std::vector<collectors::CollectorInfo>& available);

// Reads the configuration file that the command line names, if any.
config::LoadResult LoadConfig(const CommandLine& command_line, const std::vector<collectors::CollectorInfo>& available);

// A flag overrides the configuration's key, which overrides the default.
Settings MakeSettings(const CommandLine& command_line, const config::Config& config,
                      const std::vector<collectors::CollectorInfo>& available);

}  // namespace cow::exporter
