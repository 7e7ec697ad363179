#include "collectors/symbols/messages.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <system_error>

namespace cow::symbols {
namespace {

// One descriptor.
struct alignas(cmsghdr) Control {
  std::array<char, CMSG_SPACE(sizeof(int))> bytes{};
};

Transfer Await(int socket, int16_t events, Deadline deadline) {
  for (;;) {
    int wait = -1;
    if (deadline != kNoDeadline) {
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
      wait = static_cast<int>(std::clamp<int64_t>(left.count(), 0, 1'000'000));
    }
    pollfd entry{socket, events, 0};
    const int ready = poll(&entry, 1, wait);
    if (ready > 0) return Transfer::kDone;
    if (ready == 0) return Transfer::kLate;
    if (errno != EINTR) return Transfer::kClosed;
  }
}

bool IsBusy() { return errno == EAGAIN || errno == EINTR || errno == ENOBUFS; }

// Takes over every descriptor that came, so that none leaks. Returns false if it was more than one.
bool TakeDescriptors(msghdr& header, procfs::FileDescriptor& result) {
  size_t taken = 0;
  for (cmsghdr* part = CMSG_FIRSTHDR(&header); part != nullptr; part = CMSG_NXTHDR(&header, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i, ++taken) {
      int descriptor = -1;
      std::memcpy(&descriptor, CMSG_DATA(part) + i * sizeof(int), sizeof(int));
      result = procfs::FileDescriptor(descriptor);
    }
  }
  return taken <= 1 && (header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0;
}

}  // namespace

std::pair<procfs::FileDescriptor, procfs::FileDescriptor> MakeChannel() {
  std::array<int, 2> ends{};
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends.data()) != 0) {
    throw std::system_error(errno, std::generic_category(), "socketpair");
  }
  constexpr int kBufferBytes = static_cast<int>(2 * kMaxMessageBytes);
  for (const int end : ends) setsockopt(end, SOL_SOCKET, SO_SNDBUF, &kBufferBytes, sizeof(kBufferBytes));
  return {procfs::FileDescriptor(ends[0]), procfs::FileDescriptor(ends[1])};
}

Transfer Send(const procfs::FileDescriptor& channel, const MessageHead& head, std::string_view bytes, int descriptor,
              Deadline deadline) {
  if (bytes.size() + sizeof(head) > kMaxMessageBytes) return Transfer::kClosed;
  MessageHead copy = head;
  std::array<iovec, 2> parts{};
  parts[0] = {&copy, sizeof(copy)};
  parts[1] = {const_cast<char*>(bytes.data()), bytes.size()};  // NOLINT: sendmsg only reads it
  msghdr header{};
  header.msg_iov = parts.data();
  header.msg_iovlen = parts.size();
  Control control;
  if (descriptor >= 0) {
    header.msg_control = control.bytes.data();
    header.msg_controllen = control.bytes.size();
    cmsghdr* part = CMSG_FIRSTHDR(&header);
    part->cmsg_level = SOL_SOCKET;
    part->cmsg_type = SCM_RIGHTS;
    part->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(part), &descriptor, sizeof(int));
  }
  for (;;) {
    if (sendmsg(channel.get(), &header, MSG_NOSIGNAL) >= 0) return Transfer::kDone;
    if (!IsBusy()) return Transfer::kClosed;
    const Transfer room = Await(channel.get(), POLLOUT, deadline);
    if (room != Transfer::kDone) return room;
  }
}

Transfer Receive(const procfs::FileDescriptor& channel, Message& message, Deadline deadline) {
  message.descriptor = procfs::FileDescriptor();
  message.bytes.resize(kMaxMessageBytes);
  std::array<iovec, 2> parts{};
  parts[0] = {&message.head, sizeof(message.head)};
  parts[1] = {message.bytes.data(), message.bytes.size()};
  for (;;) {
    msghdr header{};
    header.msg_iov = parts.data();
    header.msg_iovlen = parts.size();
    Control control;
    header.msg_control = control.bytes.data();
    header.msg_controllen = control.bytes.size();
    const ssize_t bytes = recvmsg(channel.get(), &header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (bytes >= 0) {
      const bool is_single = TakeDescriptors(header, message.descriptor);
      if (!is_single || static_cast<size_t>(bytes) < sizeof(message.head)) return Transfer::kClosed;
      message.bytes.resize(static_cast<size_t>(bytes) - sizeof(message.head));
      return Transfer::kDone;
    }
    if (!IsBusy()) return Transfer::kClosed;
    const Transfer ready = Await(channel.get(), POLLIN, deadline);
    if (ready != Transfer::kDone) return ready;
  }
}

}  // namespace cow::symbols
