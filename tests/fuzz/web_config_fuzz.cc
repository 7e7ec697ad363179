// The web configuration, its priority string and its certificates.
#include <stdexcept>
#include <string>

#include "config/web_config.h"
#include "exporter/http/tls.h"
#include "tests/fuzz/bytes.h"
#include "tests/fuzz/check.h"

using cow::fuzz::Check;
namespace config = cow::config;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const config::WebLoadResult loaded = config::ParseWebConfig(cow::fuzz::Text(data, size), "/d/f");
  for (const config::ConfigError& error : loaded.errors) {
    Check(!error.message.empty() && error.line >= 0, "an error has a text");
    for (const char c : error.message) Check(c >= ' ' || c < 0, "an error has no control characters: " + error.message);
  }
  if (!loaded.errors.empty() || !loaded.config.tls) return 0;
  gnutls_priority_t priority = nullptr;
  const std::string text = cow::exporter::PriorityString(*loaded.config.tls);
  Check(gnutls_priority_init(&priority, text.c_str(), nullptr) == 0, "GnuTLS takes the priorities " + text);
  gnutls_priority_deinit(priority);
  try {
    const cow::exporter::Tls tls(*loaded.config.tls, {});
  } catch (const std::runtime_error&) {  // no certificate
  }
  return 0;
}
