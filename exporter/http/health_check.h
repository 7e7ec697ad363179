// Requests /-/healthy from a running exporter, for containers without curl.
//
// Takes at most 5 s, plus the time to resolve a host name. Any thread.
#pragma once

#include <optional>
#include <string>

#include "config/web_config.h"
#include "exporter/http/listen_address.h"

namespace cow::exporter {

// Returns what is wrong, or nothing if the exporter is healthy. `web` is that exporter's web configuration. With TLS,
// accepts any server certificate, because the address is the host's own. Sends neither a password nor a client
// certificate: if `web` demands one, a refusal counts as healthy. The server's rate limit does not count this request.
std::optional<std::string> CheckHealth(const ListenAddress& address, const config::WebConfig& web);

}  // namespace cow::exporter
