// Host names as the header Host and URLs contain them. Pure, any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace cow::exporter {

struct HostPort {
  std::string host;  // in lower case; an IPv6 address without brackets
  std::string port;  // empty: the scheme's default
  bool is_address = false;

  bool operator==(const HostPort&) const = default;
};

// Parses HOST or HOST:PORT, with brackets around an IPv6 address (RFC 9110, 7.2). Returns nothing if it is invalid or
// empty.
std::optional<HostPort> ParseHost(std::string_view text);

// Parses the scheme and host of `http://HOST[:PORT][/…]` or https. The port is never empty.
std::optional<HostPort> ParseOrigin(std::string_view url);

}  // namespace cow::exporter
