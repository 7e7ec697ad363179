#include "exporter/http/listen_socket.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <system_error>
#include <utility>

namespace cow::exporter {
namespace {

constexpr mode_t kUnixSocketMode = 0660;

[[noreturn]] void Fail(const std::string& address, const std::string& why) {
  throw std::runtime_error("cannot listen on " + address + ": " + why);
}

std::string Message(int error_number) { return std::generic_category().message(error_number); }

int OpenSocket(int family) { return socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0); }

void SetOption(int fd, int level, int option, int value) { setsockopt(fd, level, option, &value, sizeof(value)); }

// The socket API takes every address as a sockaddr.
template <class T>
const sockaddr* Generic(const T* address) {
  return reinterpret_cast<const sockaddr*>(address);
}

// Returns a bound socket, or -1 with errno.
int BindTcp(const sockaddr* address, socklen_t size, bool dual_stack) {
  const int fd = OpenSocket(address->sa_family);
  if (fd < 0) return fd;
  SetOption(fd, SOL_SOCKET, SO_REUSEADDR, 1);
  if (address->sa_family == AF_INET6) SetOption(fd, IPPROTO_IPV6, IPV6_V6ONLY, dual_stack ? 0 : 1);
  if (bind(fd, address, size) == 0) return fd;
  const int error = errno;
  close(fd);
  errno = error;
  return -1;
}

// Removes a socket that an ended process left behind.
void RemoveStaleSocket(const std::string& path, const std::string& name) {
  struct stat info {};
  if (lstat(path.c_str(), &info) != 0) return;  // bind reports other errors
  if (!S_ISSOCK(info.st_mode)) Fail(name, "the path is a file that is not a socket");
  const sockaddr_un address = UnixAddress(path);
  const int probe = OpenSocket(AF_UNIX);
  const int error = connect(probe, Generic(&address), sizeof(address)) == 0 ? 0 : errno;
  close(probe);
  if (error != ECONNREFUSED) Fail(name, error == 0 || error == EAGAIN ? "the address is in use" : Message(error));
  if (unlink(path.c_str()) != 0 && errno != ENOENT) Fail(name, Message(errno));
}

// The path of a unix socket; one in the abstract namespace begins with @.
std::string BoundPath(int fd) {
  sockaddr_un address{};
  socklen_t size = sizeof(address);
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) return "";
  const size_t length = std::min<size_t>(size, sizeof(address)) - offsetof(sockaddr_un, sun_path);
  std::string path(static_cast<const char*>(address.sun_path), length);
  if (!path.empty() && path.front() == '\0') {
    path.front() = '@';
    return path;
  }
  return path.substr(0, path.find('\0'));
}

std::string BoundAddress(int fd) {
  sockaddr_storage address{};
  socklen_t size = sizeof(address);
  std::array<char, NI_MAXHOST> host{};
  std::array<char, NI_MAXSERV> port{};
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0 ||
      getnameinfo(Generic(&address), size, host.data(), host.size(), port.data(), port.size(),
                  NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
    return "";
  }
  return FormatHostPort(host.data(), static_cast<uint16_t>(std::stoul(port.data())));
}

}  // namespace

ListenSocket::ListenSocket(const ListenAddress& address) : address_(FormatListenAddress(address)) {
  try {
    if (address.path.empty()) {
      ListenTcp(address);
    } else {
      ListenUnix(address.path);
    }
  } catch (...) {
    if (fd_ >= 0) close(fd_);
    throw;
  }
}

ListenSocket::ListenSocket(int fd) : address_(std::string("descriptor ").append(std::to_string(fd))) {
  if (sd_is_socket(fd, AF_UNSPEC, SOCK_STREAM, 1) <= 0) Fail(address_, "not a listening stream socket");
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
  is_unix_ = sd_is_socket(fd, AF_UNIX, SOCK_STREAM, 1) > 0;
  address_ = is_unix_ ? std::string("unix:").append(BoundPath(fd)) : BoundAddress(fd);
  fd_ = fd;
}

ListenSocket::~ListenSocket() {
  if (fd_ >= 0) close(fd_);
  struct stat info {};
  if (!path_.empty() && lstat(path_.c_str(), &info) == 0 && info.st_dev == device_ && info.st_ino == inode_) {
    unlink(path_.c_str());
  }
}

ListenSocket::ListenSocket(ListenSocket&& other) noexcept
    : fd_(other.Release()),
      address_(std::move(other.address_)),
      is_unix_(other.is_unix_),
      path_(std::exchange(other.path_, {})),
      device_(other.device_),
      inode_(other.inode_) {}

void ListenSocket::HandOver() {
  close(Release());
  path_.clear();
}

int ListenSocket::Release() { return std::exchange(fd_, -1); }

void ListenSocket::ListenUnix(const std::string& path) {
  is_unix_ = true;
  RemoveStaleSocket(path, address_);
  fd_ = OpenSocket(AF_UNIX);
  const sockaddr_un address = UnixAddress(path);
  // bind creates the file with the socket's mode, less the umask, so it is never more accessible than wanted.
  if (fd_ < 0 || fchmod(fd_, kUnixSocketMode) != 0 || bind(fd_, Generic(&address), sizeof(address)) != 0 ||
      chmod(path.c_str(), kUnixSocketMode) != 0 || listen(fd_, SOMAXCONN) != 0) {
    Fail(address_, Message(errno));
  }
  struct stat info {};
  if (lstat(path.c_str(), &info) == 0) {
    path_ = path;
    device_ = info.st_dev;
    inode_ = info.st_ino;
  }
}

// Lets the socket keep the port that the kernel chose when it stops and starts to listen again: the kernel forgets such
// a port unless a bind asked for it. Both sockets may have the port, because neither listens.
void ListenSocket::KeepPort(bool any) {
  sockaddr_storage bound{};
  socklen_t size = sizeof(bound);
  if (getsockname(fd_, reinterpret_cast<sockaddr*>(&bound), &size) != 0) return;
  const int first = std::exchange(fd_, BindTcp(reinterpret_cast<sockaddr*>(&bound), size, any));
  const int error = errno;
  close(first);
  errno = error;
}

void ListenSocket::ListenTcp(const ListenAddress& address) {
  const bool any = address.host.empty();
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int status =
      getaddrinfo(any ? nullptr : address.host.c_str(), std::to_string(address.port).c_str(), &hints, &found);
  if (status != 0) Fail(address_, gai_strerror(status));
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(found, &freeaddrinfo);

  // Without a host, prefer the dual-stack address. For a host name prefer IPv4, as node_exporter does.
  std::array<int, 2> families = {AF_INET, AF_INET6};
  if (any) std::reverse(families.begin(), families.end());
  int error = EADDRNOTAVAIL;
  for (const int family : families) {
    const addrinfo* candidate = found;
    while (candidate != nullptr && candidate->ai_family != family) candidate = candidate->ai_next;
    if (candidate == nullptr) continue;
    fd_ = BindTcp(candidate->ai_addr, candidate->ai_addrlen, any);
    if (fd_ >= 0 && address.port == 0) KeepPort(any);
    if (fd_ >= 0 && listen(fd_, SOMAXCONN) == 0) {
      address_ = BoundAddress(fd_);
      return;
    }
    error = errno;
    if (fd_ >= 0) close(Release());
    if (error != EAFNOSUPPORT && error != EADDRNOTAVAIL) break;  // those two mean that IPv6 is off
  }
  Fail(address_, error == EADDRINUSE ? "the address is in use" : Message(error));
}

std::string UnixSocketFile(int fd) {
  if (sd_is_socket(fd, AF_UNIX, SOCK_STREAM, 1) <= 0) return "";
  std::string path = BoundPath(fd);
  return path.starts_with('@') ? "" : path;
}

SystemdSockets AdoptSystemdSockets() {
  const int count = sd_listen_fds(1);
  if (count < 0) throw std::runtime_error("cannot take sockets from systemd: " + Message(-count));
  if (count == 0) throw std::runtime_error("systemd passed no sockets (LISTEN_FDS)");
  SystemdSockets sockets;
  for (int fd = SD_LISTEN_FDS_START; fd < SD_LISTEN_FDS_START + count; ++fd) {
    if (sd_is_socket(fd, AF_NETLINK, 0, -1) > 0) {
      sockets.netlink.emplace_back(fd);
    } else {
      sockets.listening.emplace_back(fd);
    }
  }
  if (sockets.listening.empty()) throw std::runtime_error("systemd passed no socket to listen on");
  return sockets;
}

}  // namespace cow::exporter
