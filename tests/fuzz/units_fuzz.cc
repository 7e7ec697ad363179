// Durations, sizes and numbers, and the names of addresses.
#include <string>

#include "collectors/base/utf8.h"
#include "config/config.h"
#include "config/units.h"
#include "exporter/http/listen_address.h"
#include "tests/fuzz/bytes.h"
#include "tests/fuzz/check.h"

using cow::fuzz::Check;
namespace config = cow::config;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text = cow::fuzz::Text(data, size);
  if (const auto duration = config::ParseDuration(text)) {
    Check(config::ParseDuration(config::FormatDuration(*duration)) == *duration, "the same duration");
  }
  if (const auto bytes = config::ParseSize(text)) {
    Check(config::ParseSize(config::FormatSize(*bytes)) == *bytes, "the same size");
  }
  if (const auto duration = config::ParseGoDuration(text)) Check(duration->count() >= 0, "no negative duration");
  if (const auto number = config::ParseIntegerIn(text, 5, 64)) Check(*number >= 5 && *number <= 64, "in the range");
  static_cast<void>(config::ParseNumber(text));
  static_cast<void>(config::ParseMaxCpu(text));
  static_cast<void>(config::ParseScanInterval(text));
  static_cast<void>(config::ParseFullEvery(text));
  if (const auto address = cow::exporter::ParseListenAddress(text)) {
    const auto again = cow::exporter::ParseListenAddress(cow::exporter::FormatListenAddress(*address));
    Check(again && again->host == address->host && again->port == address->port && again->path == address->path,
          "the same address: " + cow::exporter::FormatListenAddress(*address));
  }
  const std::string quoted = config::Quoted(text);
  for (size_t i = 0; i < quoted.size(); ++i) {
    Check(quoted[i] >= ' ' || quoted[i] < 0, "quotes hide control characters");
    Check(quoted[i] != '\x7f' && quoted.compare(i, 2, "\xc2\x9c") != 0, "quotes hide control characters");
  }
  for (std::string_view rest = quoted; !rest.empty(); rest.remove_prefix(cow::Utf8CharacterLength(rest))) {
    Check(cow::Utf8CharacterLength(rest) != 0, "a quoted text is UTF-8");
  }
  return 0;
}
