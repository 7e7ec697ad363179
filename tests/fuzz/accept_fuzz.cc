// The headers Accept and Accept-Encoding.
#include <string_view>

#include "exporter/metrics_text/negotiation.h"
#include "tests/fuzz/bytes.h"
#include "tests/fuzz/check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text = cow::fuzz::Text(data, size);
  const auto chosen = cow::exporter::NegotiateFormat(text);
  const std::string_view type = chosen.content_type;
  cow::fuzz::Check(type.starts_with("text/plain") || type.starts_with("application/openmetrics-text"), "a known type");
  static_cast<void>(cow::exporter::NegotiateGzip(text));
  return 0;
}
