// A bound and listening socket. A unix socket's file can be used by its owner and group (mode 0660); it is removed at
// the end, if it is still the one that was made here.
//
// One thread at a time.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "exporter/http/listen_address.h"

namespace cow::exporter {

class ListenSocket {
 public:
  // Throws std::runtime_error with a message that names the address: in use, denied, not this host's…
  // A unix socket that nobody answers is replaced; any other file at its path is an error.
  explicit ListenSocket(const ListenAddress& address);
  // Takes over a socket that listens already. Throws as the other one.
  explicit ListenSocket(int fd);
  ~ListenSocket();
  ListenSocket(ListenSocket&& other) noexcept;
  ListenSocket& operator=(ListenSocket&&) = delete;
  ListenSocket(const ListenSocket&) = delete;
  ListenSocket& operator=(const ListenSocket&) = delete;

  [[nodiscard]] int Descriptor() const { return fd_; }
  // Gives the descriptor away; the socket's file stays in care here.
  int Release();
  // As bound: with the chosen port.
  [[nodiscard]] const std::string& Address() const { return address_; }
  [[nodiscard]] bool IsUnix() const { return is_unix_; }

 private:
  void ListenUnix(const std::string& path);
  void ListenTcp(const ListenAddress& address);

  int fd_ = -1;
  std::string address_;
  bool is_unix_ = false;
  std::string path_;  // of the file that was made here; empty: none
  dev_t device_ = 0;
  ino_t inode_ = 0;
};

// Those that systemd, or who acts like it (sd_listen_fds(3)), passed to this process, in their order. Throws
// std::runtime_error if there are none, or if one is not a listening stream socket.
std::vector<ListenSocket> SocketsOfSystemd();

}  // namespace cow::exporter
