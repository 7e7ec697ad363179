// A netlink socket with unique ownership, and what both readers of the kernel's reports do with it. Not thread-safe.
#pragma once

#include <netlink/errno.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>
#include <sys/socket.h>

#include <cstddef>
#include <memory>

#include "collectors/netlink/given_sockets.h"
#include "collectors/procfs/file_descriptor.h"

namespace cow::netlink {

struct SocketCloser {
  void operator()(nl_sock* socket) const { nl_socket_free(socket); }
};
using Socket = std::unique_ptr<nl_sock, SocketCloser>;

// Connects to a given socket of this protocol, or to a new one. Returns a code of libnl.
inline int Connect(nl_sock* socket, int protocol, GivenSockets& given) {
  procfs::FileDescriptor descriptor = given.Take(protocol);
  if (!descriptor.valid()) return nl_connect(socket, protocol);
  const int code = nl_socket_set_fd(socket, protocol, descriptor.get());
  if (code == 0) descriptor.Release();
  return code;
}

// Sets the size of the kernel's buffer. The general limit may be too small; without the capability to exceed it, uses
// what it allows.
inline void SetRoom(nl_sock* socket, int bytes) {
  const int descriptor = nl_socket_get_fd(socket);
  if (setsockopt(descriptor, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)) != 0) {
    setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
  }
}

// Passes the waiting messages to the socket's callbacks. Reads a limited number, so it ends even if messages come
// faster than it reads. Returns false if messages were lost or are left.
inline bool ReceiveWaiting(nl_sock* socket) {
  constexpr size_t kMaxReads = 65536;
  constexpr size_t kMaxWithoutMemory = 3;
  size_t without_memory = 0;
  for (size_t reads = 0; reads < kMaxReads; ++reads) {
    const int code = nl_recvmsgs_default(socket);
    if (code == -NLE_NOMEM) {
      // The kernel reports dropped messages once and keeps the later ones. libnl reports each failed allocation.
      if (++without_memory == kMaxWithoutMemory) break;
    } else if (code < 0 && code != -NLE_INTR) {
      return without_memory == 0;
    }
  }
  return false;
}

}  // namespace cow::netlink
