// Serves until a signal ends the program: runs the scan loop in this process, the reader, and HTTP in another one.
//
// Call it from the main thread, before any other thread starts.
#pragma once

#include <string>
#include <vector>

#include "collectors/engine/engine.h"
#include "exporter/command_line.h"
#include "exporter/log/log.h"
#include "exporter/scan/self_metrics.h"
#include "exporter/settings.h"

namespace cow::exporter {

// Returns false if the program ends because it can no longer serve. Throws std::exception if it can't start.
bool Serve(const CommandLine& command_line, const Settings& settings,
           const std::vector<collectors::CollectorInfo>& available, SelfMetrics& self_metrics,
           const std::string& version, Log& log);

}  // namespace cow::exporter
