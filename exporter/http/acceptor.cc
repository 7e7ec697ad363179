#include "exporter/http/acceptor.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>

#include <array>
#include <cerrno>
#include <stdexcept>
#include <utility>

namespace cow::exporter {
namespace {

constexpr int kPauseMs = 10;

bool IsShortage(int error) { return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM; }

}  // namespace

Acceptor::Acceptor(ListenSocket socket, OnAccept on_accept)
    : socket_(std::move(socket)), on_accept_(std::move(on_accept)), end_(eventfd(0, EFD_CLOEXEC)) {
  const int flags = fcntl(socket_.Descriptor(), F_GETFL);
  // Another process may take a connection between poll and accept.
  if (!end_.valid() || flags < 0 || fcntl(socket_.Descriptor(), F_SETFL, flags | O_NONBLOCK) != 0) {
    throw std::runtime_error("cannot serve on " + socket_.Address());
  }
  thread_ = std::thread([this] { Run(); });
}

Acceptor::~Acceptor() {
  eventfd_write(end_.get(), 1);
  thread_.join();
}

void Acceptor::Run() const {
  while (Wait()) {
    if (Accept()) continue;
    pollfd end{end_.get(), POLLIN, 0};
    poll(&end, 1, kPauseMs);
  }
}

bool Acceptor::Wait() const {
  std::array<pollfd, 2> files{{{socket_.Descriptor(), POLLIN, 0}, {end_.get(), POLLIN, 0}}};
  while (poll(files.data(), files.size(), -1) < 0) {
    if (errno != EINTR) return false;
  }
  return files[1].revents == 0;
}

bool Acceptor::Accept() const {
  sockaddr_storage peer{};
  socklen_t peer_bytes = sizeof(peer);
  const int fd =
      accept4(socket_.Descriptor(), reinterpret_cast<sockaddr*>(&peer), &peer_bytes, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (fd < 0) return !IsShortage(errno);
  on_accept_(fd, peer, peer_bytes);
  return true;
}

}  // namespace cow::exporter
