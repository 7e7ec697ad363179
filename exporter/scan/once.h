// `--once`: a single pass without a budget, its metrics as text.
#pragma once

#include <cstdio>

#include "exporter/log/log.h"
#include "exporter/scan/pass_runner.h"
#include "exporter/scan/self_metrics.h"

namespace cow::exporter {

// Writes all of it to `out` and flushes. False, after saying why in the log, if the pass or the writing failed.
bool RunOnce(PassRunner& runner, const SelfMetrics& self_metrics, std::FILE* out, Log& log);

}  // namespace cow::exporter
