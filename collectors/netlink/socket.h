// A netlink socket with unique ownership. Not thread-safe.
#pragma once

#include <netlink/socket.h>

#include <memory>

namespace cow::netlink {

struct SocketCloser {
  void operator()(nl_sock* socket) const { nl_socket_free(socket); }
};
using Socket = std::unique_ptr<nl_sock, SocketCloser>;

}  // namespace cow::netlink
