// Selects the format and encoding of a response from the headers Accept and Accept-Encoding (RFC 9110, sections 12.4.2,
// 12.5.1 and 12.5.3). Ignores malformed elements of a header. Pure, any thread.
#pragma once

#include <optional>
#include <string_view>

#include "exporter/metrics_text/text_format.h"

namespace cow::exporter {

struct NegotiatedFormat {
  TextFormat format = TextFormat::kPrometheus;
  const char* content_type = "";
};

// Returns the format with the highest q-value. On a tie the first in the header wins, then 0.0.4. Falls back to 0.0.4
// if the client accepts neither or sends no header.
NegotiatedFormat NegotiateFormat(std::optional<std::string_view> accept);

// True if the client prefers gzip.
bool NegotiateGzip(std::optional<std::string_view> accept_encoding);

}  // namespace cow::exporter
