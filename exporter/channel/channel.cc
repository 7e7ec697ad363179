#include "exporter/channel/channel.h"

#include <sys/socket.h>
#include <sys/time.h>

#include <cerrno>
#include <cstring>
#include <system_error>

namespace cow::exporter {
namespace {

// Room for the control message of one descriptor.
union ControlBuffer {
  cmsghdr header;  // aligns the bytes
  std::array<char, CMSG_SPACE(sizeof(int))> bytes;
};

bool WouldBlock() { return errno == EAGAIN || errno == EWOULDBLOCK; }

}  // namespace

std::pair<Channel, Channel> Channel::MakePair() {
  std::array<int, 2> ends{};
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    throw std::system_error(errno, std::generic_category(), "socketpair");
  }
  return {Channel(procfs::FileDescriptor(ends[0])), Channel(procfs::FileDescriptor(ends[1]))};
}

Channel::Sent Channel::Send(std::string_view bytes, int descriptor, Wait wait) const {
  iovec data{const_cast<char*>(bytes.data()), bytes.size()};  // NOLINT: sendmsg only reads it
  ControlBuffer control{};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  if (descriptor >= 0) {
    message.msg_control = control.bytes.data();
    message.msg_controllen = control.bytes.size();
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(header), &descriptor, sizeof(descriptor));
  }
  const int flags = MSG_NOSIGNAL | (wait == Wait::kNever ? MSG_DONTWAIT : 0);
  while (sendmsg(socket_.get(), &message, flags) < 0) {
    if (errno == EINTR) continue;
    // ETOOMANYREFS: too many descriptors are in flight.
    return WouldBlock() || errno == ENOBUFS || errno == ENOMEM || errno == ETOOMANYREFS ? Sent::kFull : Sent::kClosed;
  }
  return Sent::kYes;
}

std::optional<Channel::Message> Channel::Receive(Descriptors descriptors, Wait wait, bool& closed) const {
  Message result;
  iovec data{result.buffer.data(), result.buffer.size()};
  ControlBuffer control{};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  if (descriptors == Descriptors::kAccept) {
    message.msg_control = control.bytes.data();
    message.msg_controllen = control.bytes.size();
  }
  const int flags = MSG_CMSG_CLOEXEC | (wait == Wait::kNever ? MSG_DONTWAIT : 0);
  ssize_t size = 0;
  while ((size = recvmsg(socket_.get(), &message, flags)) < 0 && errno == EINTR) {
  }
  if (size <= 0) {
    closed = size == 0 || !WouldBlock();
    return std::nullopt;
  }
  result.size = static_cast<size_t>(size);
  result.malformed = (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0;
  for (const cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
       header = CMSG_NXTHDR(&message, const_cast<cmsghdr*>(header))) {  // NOLINT: the macro's own signature
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    // Alignment leaves room for a second descriptor, which must be closed too.
    const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int descriptor = -1;
      std::memcpy(&descriptor, CMSG_DATA(header) + i * sizeof(int), sizeof(descriptor));
      result.malformed = result.malformed || result.descriptor.valid();
      result.descriptor = procfs::FileDescriptor(descriptor);
    }
  }
  return result;
}

void Channel::SetTimeout(std::chrono::milliseconds timeout) const {
  const timeval time{timeout.count() / 1000, (timeout.count() % 1000) * 1000};
  for (const int option : {SO_RCVTIMEO, SO_SNDTIMEO}) {
    if (setsockopt(socket_.get(), SOL_SOCKET, option, &time, sizeof(time)) != 0) {
      throw std::system_error(errno, std::generic_category(), "setsockopt");
    }
  }
}

}  // namespace cow::exporter
