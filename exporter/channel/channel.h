// One end of a SOCK_SEQPACKET socket between two processes of the service. A message is a short sequence of bytes, with
// at most one descriptor.
//
// Any thread may send; one thread at a time receives.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <optional>
#include <string_view>
#include <utility>

#include "collectors/procfs/file_descriptor.h"

namespace cow::exporter {

class Channel {
 public:
  // Longer messages are malformed.
  static constexpr size_t kMaxBytes = 64;

  struct Message {
    std::array<char, kMaxBytes> buffer{};
    size_t size = 0;
    procfs::FileDescriptor descriptor;  // not valid: none
    bool malformed = false;             // too long, or with more than was expected

    [[nodiscard]] std::string_view Bytes() const { return {buffer.data(), size}; }
  };

  enum class Sent { kYes, kFull, kClosed };
  enum class Descriptors { kAccept, kRefuse };
  enum class Wait { kForever, kNever };

  // Two connected ends, closed on exec. Throws std::system_error.
  static std::pair<Channel, Channel> MakePair();
  explicit Channel(procfs::FileDescriptor socket) : socket_(std::move(socket)) {}

  // `descriptor` -1: none. With Wait::kForever, waits for room as long as SetTimeout allows.
  [[nodiscard]] Sent Send(std::string_view bytes, int descriptor, Wait wait) const;

  // Returns a message, or nothing if none is there. The other end has closed if `closed` becomes true. A descriptor
  // that comes unwanted is closed, and its message is malformed.
  std::optional<Message> Receive(Descriptors descriptors, Wait wait, bool& closed) const;

  // Limits each wait. Throws std::system_error.
  void SetTimeout(std::chrono::milliseconds timeout) const;

  [[nodiscard]] int Descriptor() const { return socket_.get(); }

 private:
  procfs::FileDescriptor socket_;
};

}  // namespace cow::exporter
