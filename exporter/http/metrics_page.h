// The telemetry path: which metrics, in which form, at which deadline. Any thread.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

#include "config/units.h"
#include "exporter/http/http_message.h"
#include "exporter/http/query.h"
#include "exporter/scan/snapshot.h"

namespace cow::exporter {

// When an answer is due: at the scrape's timeout, less what it takes to get there.
std::optional<std::chrono::steady_clock::time_point> ScrapeDeadline(const HttpRequest& request);

// In the format and with the encoding that the request asks for.
HttpResponse MetricsResponse(const HttpRequest& request, const CollectorFilter& filter,
                             const std::shared_ptr<const Snapshot>& snapshot);

}  // namespace cow::exporter
