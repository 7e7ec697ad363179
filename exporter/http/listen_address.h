// Parses an address to listen on: `:PORT`, `ADDRESS:PORT`, `[ADDRESS]:PORT` or `unix:PATH`. Plain values, any thread.
#pragma once

#include <sys/un.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "config/units.h"

namespace cow::exporter {

struct ListenAddress {
  std::string host;   // IPv4 or IPv6 address, or a host name; empty: all addresses of both families
  uint16_t port = 0;  // 0: the kernel chooses a free port
  std::string path;   // of a unix socket; overrides host and port
};

config::Parsed<ListenAddress> ParseListenAddress(std::string_view text);

// The inverse of ParseListenAddress.
std::string FormatListenAddress(const ListenAddress& address);

// The address of a unix socket. `path` must fit in it.
sockaddr_un UnixAddress(const std::string& path);

// HOST:PORT, with brackets around an IPv6 address.
std::string FormatHostPort(std::string_view host, uint16_t port);

}  // namespace cow::exporter
