// Where to listen: `:PORT`, `ADDRESS:PORT`, `[ADDRESS]:PORT` or `unix:PATH`. Plain values, any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "config/units.h"

namespace cow::exporter {

struct ListenAddress {
  std::string host;   // IPv4 or IPv6 address, or a host name; empty: every address of both families
  uint16_t port = 0;  // 0: any free one
  std::string path;   // of a unix socket; then host and port mean nothing
};

config::Parsed<ListenAddress> ParseListenAddress(std::string_view text);

// As it is written.
std::string FormatListenAddress(const ListenAddress& address);

// HOST:PORT, with brackets around what has colons.
std::string FormatHostPort(std::string_view host, uint16_t port);

}  // namespace cow::exporter
