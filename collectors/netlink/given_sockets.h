// Netlink sockets that a service manager opened and passed to this process. Such a socket belongs to the network
// namespace where it was opened, so the kernel's reports arrive although this process is in another namespace.
//
// Not thread-safe.
#pragma once

#include <utility>
#include <vector>

#include "collectors/procfs/file_descriptor.h"

namespace cow::netlink {

class GivenSockets {
 public:
  // Takes ownership of a bound netlink socket.
  void Add(procfs::FileDescriptor socket) { sockets_.push_back(std::move(socket)); }

  // Hands out a socket of this protocol (NETLINK_CONNECTOR, NETLINK_GENERIC), each once. Invalid if none is left. The
  // manager keeps its sockets open, so this discards what they hold for an earlier process.
  procfs::FileDescriptor Take(int protocol);

 private:
  std::vector<procfs::FileDescriptor> sockets_;
};

}  // namespace cow::netlink
