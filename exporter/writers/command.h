// `cow_exporter explain PID --writers`: shows which code breaks the sharing of a family.
#pragma once

#include <cstdio>

#include "exporter/explain/command.h"

namespace cow::exporter {

// `options.writers` must be set. Returns the exit code: 0, or 1 with a message on `problem`. SIGINT or SIGTERM ends the
// watch early and prints what was seen.
int RunWriters(const ExplainOptions& options, std::FILE* out, std::FILE* problem);

}  // namespace cow::exporter
