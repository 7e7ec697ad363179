// The query of a request, and the filter of collectors in it.
#include <algorithm>
#include <array>
#include <span>
#include <string>
#include <string_view>

#include "exporter/http/query.h"
#include "tests/fuzz/bytes.h"
#include "tests/fuzz/check.h"

namespace exporter = cow::exporter;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::array<std::string, 3> kKnown{"cow", "ksm", "thp"};
  const std::string_view query = cow::fuzz::Text(data, size);
  const auto parameters = exporter::ParseQuery(query);
  if (parameters) {
    size_t bytes = 0;
    for (const auto& [key, value] : *parameters) bytes += key.size() + value.size();
    cow::fuzz::Check(bytes <= size, "decoding makes no text longer");
  }
  const auto filter = exporter::ParseFilter(query, kKnown, std::span(kKnown).first(2));
  cow::fuzz::Check(parameters || !filter, "a bad query has no filter");
  const auto explain = exporter::ParseExplainQuery(query);
  cow::fuzz::Check(!explain || explain->pid > 0, "an explained process has an id");
  return 0;
}
