#include "exporter/http/client_key.h"

#include <netinet/in.h>

#include <cstring>

namespace cow::exporter {
namespace {

// Big-endian, as in the packet.
template <typename Bytes>
uint64_t Number(const Bytes* bytes, size_t count) {
  uint64_t number = 0;
  for (size_t i = 0; i < count; ++i) number = number << 8U | static_cast<uint8_t>(bytes[i]);
  return number;
}

}  // namespace

ClientKey ClientOf(const sockaddr_storage& peer, int fd) {
  if (peer.ss_family == AF_INET) {
    sockaddr_in ipv4{};
    std::memcpy(&ipv4, &peer, sizeof(ipv4));
    return {ClientKey::Kind::kIpv4, ntohl(ipv4.sin_addr.s_addr)};
  }
  if (peer.ss_family == AF_INET6) {
    sockaddr_in6 ipv6{};
    std::memcpy(&ipv6, &peer, sizeof(ipv6));
    const uint8_t* bytes = ipv6.sin6_addr.s6_addr;
    if (IN6_IS_ADDR_V4MAPPED(&ipv6.sin6_addr)) return {ClientKey::Kind::kIpv4, Number(bytes + 12, 4)};
    return {ClientKey::Kind::kIpv6, Number(bytes, 8)};
  }
  ucred credentials{};
  socklen_t size = sizeof(credentials);
  if (peer.ss_family == AF_UNIX && getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) == 0) {
    return {ClientKey::Kind::kUser, credentials.uid};
  }
  return {};
}

}  // namespace cow::exporter
