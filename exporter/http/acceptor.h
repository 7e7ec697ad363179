// Accepts connections on a listening socket, in a thread of its own. While the process or the system has no free
// descriptor or memory, tries again every 10 ms.
#pragma once

#include <sys/socket.h>

#include <functional>
#include <thread>

#include "collectors/procfs/file_descriptor.h"
#include "exporter/http/listen_socket.h"

namespace cow::exporter {

class Acceptor {
 public:
  // Runs in the acceptor's thread. Owns `fd`, which does not block. Must not throw.
  using OnAccept = std::function<void(int fd, const sockaddr_storage& peer, socklen_t peer_bytes)>;

  // Throws std::runtime_error or std::system_error if no descriptor or thread is left.
  Acceptor(ListenSocket socket, OnAccept on_accept);
  // Waits for the thread, and closes the socket.
  ~Acceptor();
  Acceptor(const Acceptor&) = delete;
  Acceptor& operator=(const Acceptor&) = delete;

 private:
  void Run() const;
  [[nodiscard]] bool Accept() const;
  // Waits until the socket has a connection. Returns false at the end.
  [[nodiscard]] bool Wait() const;

  const ListenSocket socket_;
  const OnAccept on_accept_;
  const procfs::FileDescriptor end_;  // an eventfd
  std::thread thread_;
};

}  // namespace cow::exporter
