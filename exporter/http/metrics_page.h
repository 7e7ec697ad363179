// Answers requests to the telemetry path: deadline, collector filter, format and encoding. Any thread.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

#include "config/units.h"
#include "exporter/http/filtered_bodies.h"
#include "exporter/http/http_message.h"
#include "exporter/http/query.h"
#include "exporter/snapshot/snapshot.h"

namespace cow::exporter {

// The time by which a scrape needs its response: its timeout header less a reserve for the transfer. Empty without a
// valid header.
std::optional<std::chrono::steady_clock::time_point> ScrapeDeadline(const HttpRequest& request);

// Renders the snapshot in the format and encoding that the request asks for. `filtered` keeps compressed texts.
HttpResponse MetricsResponse(const HttpRequest& request, const CollectorFilter& filter,
                             const std::shared_ptr<const Snapshot>& snapshot, FilteredBodies& filtered);

}  // namespace cow::exporter
