// Which form of an answer a client wants, by the headers Accept and Accept-Encoding (RFC 9110, sections 12.4.2, 12.5.1
// and 12.5.3). What can't be understood in a header counts as if it were not there. Pure, any thread.
#pragma once

#include <optional>
#include <string_view>

#include "exporter/metrics_text/text_format.h"

namespace cow::exporter {

struct NegotiatedFormat {
  TextFormat format = TextFormat::kPrometheus;
  const char* content_type = "";
};

// The one with the highest q-value; of equals the one that is named first, and 0.0.4 for a range that takes both. A
// client that takes neither, or does not say, gets 0.0.4.
NegotiatedFormat NegotiateFormat(std::optional<std::string_view> accept);

// Whether the answer is to be sent as gzip.
bool NegotiateGzip(std::optional<std::string_view> accept_encoding);

}  // namespace cow::exporter
