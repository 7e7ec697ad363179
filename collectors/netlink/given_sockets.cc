#include "collectors/netlink/given_sockets.h"

#include <sys/socket.h>

#include <cerrno>
#include <cstddef>
#include <utility>

namespace cow::netlink {
namespace {

void Discard(int socket) {
  constexpr size_t kMaxMessages = 1 << 16;  // ends even if more come all the time
  char byte = 0;
  for (size_t i = 0; i < kMaxMessages; ++i) {
    // ENOBUFS tells once that messages were lost.
    if (recv(socket, &byte, sizeof(byte), MSG_DONTWAIT) < 0 && errno != ENOBUFS) return;
  }
}

}  // namespace

procfs::FileDescriptor GivenSockets::Take(int protocol) {
  for (auto each = sockets_.begin(); each != sockets_.end(); ++each) {
    int own = -1;
    socklen_t size = sizeof(own);
    if (getsockopt(each->get(), SOL_SOCKET, SO_PROTOCOL, &own, &size) != 0 || own != protocol) continue;
    procfs::FileDescriptor taken = std::move(*each);
    sockets_.erase(each);
    Discard(taken.get());
    return taken;
  }
  return {};
}

}  // namespace cow::netlink
