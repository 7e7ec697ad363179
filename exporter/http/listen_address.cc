#include "exporter/http/listen_address.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <limits>

namespace cow::exporter {
namespace {

tl::unexpected<std::string> Bad(std::string_view text, std::string_view why) {
  return tl::unexpected("bad address " + config::Quoted(text) + ": " + std::string(why));
}

bool IsIpv4(const std::string& host) {
  in_addr address{};
  return inet_pton(AF_INET, host.c_str(), &address) == 1;
}

// Ignores a scope (`fe80::1%eth0`); the resolver checks it.
bool IsIpv6(const std::string& host) {
  in6_addr address{};
  return inet_pton(AF_INET6, host.substr(0, host.find('%')).c_str(), &address) == 1;
}

bool IsHostName(std::string_view host) {
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  const auto is_letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  return std::all_of(host.begin(), host.end(),
                     [&](char c) { return is_digit(c) || is_letter(c) || c == '-' || c == '.'; }) &&
         std::any_of(host.begin(), host.end(), is_letter);
}

}  // namespace

config::Parsed<ListenAddress> ParseListenAddress(std::string_view text) {
  constexpr std::string_view kUnix = "unix:";
  ListenAddress result;
  if (text.find('\0') != std::string_view::npos) return Bad(text, "a NUL byte");
  if (text.substr(0, kUnix.size()) == kUnix) {
    result.path = text.substr(kUnix.size());
    if (result.path.empty()) return Bad(text, "no path");
    if (result.path.size() >= sizeof(sockaddr_un::sun_path)) return Bad(text, "the path is longer than 107 bytes");
    return result;
  }
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return Bad(text, "expected HOST:PORT, :PORT or unix:PATH");
  const auto port = config::ParseInteger(text.substr(colon + 1));
  if (!port || *port > std::numeric_limits<uint16_t>::max()) return Bad(text, "the port must be from 0 to 65535");
  result.port = static_cast<uint16_t>(*port);

  std::string_view host = text.substr(0, colon);
  if (host.empty()) return result;
  const bool bracketed = host.front() == '[' && host.back() == ']';
  if (bracketed) host = host.substr(1, host.size() - 2);
  result.host = host;
  if (bracketed ? !IsIpv6(result.host) : !IsIpv4(result.host) && !IsHostName(result.host)) {
    return Bad(text, bracketed ? "no IPv6 address in the brackets"
                               : "neither an IPv4 address, nor a host name, nor an IPv6 address in brackets");
  }
  return result;
}

std::string FormatListenAddress(const ListenAddress& address) {
  return address.path.empty() ? FormatHostPort(address.host, address.port) : "unix:" + address.path;
}

sockaddr_un UnixAddress(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(static_cast<char*>(address.sun_path), sizeof(address.sun_path) - 1);
  return address;
}

std::string FormatHostPort(std::string_view host, uint16_t port) {
  const bool brackets = host.find(':') != std::string_view::npos;
  std::string text = brackets ? "[" : "";
  text.append(host).append(brackets ? "]:" : ":").append(std::to_string(port));
  return text;
}

}  // namespace cow::exporter
