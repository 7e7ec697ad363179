// Asks an exporter that runs whether it is healthy, at an address that it listens on: for containers without curl.
//
// Any thread; takes 5 s at most, with whoever answers, besides the look-up of an address that is a name.
#pragma once

#include <optional>
#include <string>

#include "config/web_config.h"
#include "exporter/http/listen_address.h"

namespace cow::exporter {

// Empty if it is healthy, else what is wrong. `web` is the web configuration of that exporter: with TLS this speaks it,
// to whatever certificate, since it is about its own address. Asked for a password or a client certificate that the
// configuration demands, it has none to show: that it is asked and then refused is a sign of life enough. The limit of
// requests there does not count this one.
std::optional<std::string> CheckHealth(const ListenAddress& address, const config::WebConfig& web);

}  // namespace cow::exporter
