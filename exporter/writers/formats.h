// A report of writers for other programs: JSON, collapsed stacks, and the profile format of pprof. Weights are bytes of
// sharing lost. Pure functions, any thread.
#pragma once

#include <chrono>
#include <string>

#include "collectors/writers/report.h"

namespace cow::exporter {

std::string WritersJson(const writers::Report& report);

// One line per stack: frames from the outermost to the innermost, separated by ';', a space, and bytes. The outermost
// frame is the side.
std::string WritersFolded(const writers::Report& report);

// Serialized protobuf, not compressed. `end`: when the watch ended.
std::string WritersPprof(const writers::Report& report, std::chrono::system_clock::time_point end);

}  // namespace cow::exporter
