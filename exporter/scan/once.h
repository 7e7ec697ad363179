// `--once`: runs a single pass without a budget and writes its metrics.
#pragma once

#include <cstdio>

#include "exporter/log/log.h"
#include "exporter/scan/pass_runner.h"
#include "exporter/scan/self_metrics.h"

namespace cow::exporter {

// Writes the metrics to `out` and flushes it. Logs the error and returns false if the pass or the writing fails.
bool RunOnce(PassRunner& runner, const SelfMetrics& self_metrics, std::FILE* out, Log& log);

}  // namespace cow::exporter
