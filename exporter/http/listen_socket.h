// A bound and listening socket. The file of a unix socket has mode 0660. The destructor removes it, unless another file
// replaced it.
//
// One thread at a time.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "collectors/procfs/file_descriptor.h"
#include "exporter/http/listen_address.h"

namespace cow::exporter {

class ListenSocket {
 public:
  // Binds and listens. Replaces a unix socket on which no process listens; any other file at the path is an error.
  // Throws std::runtime_error with a message that names the address.
  explicit ListenSocket(const ListenAddress& address);
  // Adopts a listening socket. Throws std::runtime_error if `fd` is none.
  explicit ListenSocket(int fd);
  ~ListenSocket();
  ListenSocket(ListenSocket&& other) noexcept;
  ListenSocket& operator=(ListenSocket&&) = delete;
  ListenSocket(const ListenSocket&) = delete;
  ListenSocket& operator=(const ListenSocket&) = delete;

  [[nodiscard]] int Descriptor() const { return fd_; }
  // Releases the descriptor; the destructor still removes the socket's file.
  int Release();
  // True if the destructor removes a file.
  [[nodiscard]] bool OwnsFile() const { return !path_.empty(); }
  // Closes the descriptor and keeps the file, because another process has taken the socket over.
  void HandOver();
  // The bound address, with the port that the kernel chose.
  [[nodiscard]] const std::string& Address() const { return address_; }
  [[nodiscard]] bool IsUnix() const { return is_unix_; }

 private:
  void ListenUnix(const std::string& path);
  void ListenTcp(const ListenAddress& address);
  void KeepPort(bool any);

  int fd_ = -1;
  std::string address_;
  bool is_unix_ = false;
  std::string path_;  // file to remove; empty: none
  dev_t device_ = 0;
  ino_t inode_ = 0;
};

// The path of a unix socket's file; empty for all other sockets.
std::string UnixSocketFile(int fd);

struct SystemdSockets {
  std::vector<ListenSocket> listening;
  std::vector<procfs::FileDescriptor> netlink;
};

// Adopts the sockets that systemd passed to this process (sd_listen_fds(3)), in order. Throws std::runtime_error if
// none of them listens, or if one is neither a listening stream socket nor a netlink socket.
SystemdSockets AdoptSystemdSockets();

}  // namespace cow::exporter
