#include "exporter/http/metrics_page.h"

#include <algorithm>
#include <string>
#include <utility>

#include "exporter/metrics_text/compression.h"
#include "exporter/metrics_text/negotiation.h"

namespace cow::exporter {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kTimeoutReserve{500};

// The unfiltered text belongs to the snapshot, which the returned text keeps alive.
SharedText Body(const CollectorFilter& filter, TextFormat format, bool gzip,
                const std::shared_ptr<const Snapshot>& snapshot, FilteredBodies& filtered) {
  if (filter.kind == CollectorFilter::Kind::kAll) {
    return {gzip ? snapshot->GzipText(format) : snapshot->Text(format), snapshot};
  }
  if (!gzip) return snapshot->Text(format, filter);
  return filtered.Get(snapshot, {format, filter.kind, filter.names},
                      [&] { return Gzip(snapshot->Text(format, filter)); });
}

}  // namespace

std::optional<Clock::time_point> ScrapeDeadline(const HttpRequest& request) {
  constexpr double kMaxSeconds = 3600;
  const auto value = request.Header("x-prometheus-scrape-timeout-seconds");
  if (!value) return std::nullopt;
  const auto seconds = config::ParseNumber(*value);
  if (!seconds || *seconds <= 0) return std::nullopt;
  const std::chrono::duration<double> timeout(std::min(*seconds, kMaxSeconds));
  return Clock::now() + std::chrono::duration_cast<Clock::duration>(timeout) - kTimeoutReserve;
}

HttpResponse MetricsResponse(const HttpRequest& request, const CollectorFilter& filter,
                             const std::shared_ptr<const Snapshot>& snapshot, FilteredBodies& filtered) {
  const NegotiatedFormat format = NegotiateFormat(request.Header("accept"));
  const bool gzip = NegotiateGzip(request.Header("accept-encoding"));
  HttpResponse response;
  response.content_type = format.content_type;
  response.body = Body(filter, format.format, gzip, snapshot, filtered);
  response.headers.emplace_back("Vary", "Accept, Accept-Encoding");
  if (gzip) response.headers.emplace_back("Content-Encoding", "gzip");
  return response;
}

}  // namespace cow::exporter
