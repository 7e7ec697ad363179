// Identifies the client of a connection, for limits per client: an IPv4 address, an IPv6 network of 64 bits, or the
// user at the other end of a unix socket. An IPv4 address mapped into IPv6 counts as IPv4. Plain values, any thread.
#pragma once

#include <sys/socket.h>

#include <compare>
#include <cstdint>

namespace cow::exporter {

struct ClientKey {
  enum class Kind : uint8_t { kOther, kIpv4, kIpv6, kUser };

  Kind kind = Kind::kOther;
  uint64_t number = 0;  // the address, the first 64 bits of the address, or the user ID

  auto operator<=>(const ClientKey&) const = default;
};

// `peer` is the address that accept(2) returned for the socket `fd`. All users that the kernel doesn't name are one.
ClientKey ClientOf(const sockaddr_storage& peer, int fd);

}  // namespace cow::exporter
