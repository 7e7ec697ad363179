// Receives forks, execs and exits as they happen, from the kernel's proc connector over netlink (CONFIG_PROC_EVENTS).
//
// Needs CAP_NET_ADMIN and the initial network, user and PID namespaces. <linux/cn_proc.h> defines the layout. This
// header hides libnl. Use it from one thread.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "collectors/base/result.h"
#include "collectors/netlink/given_sockets.h"
#include "collectors/procfs/root.h"

namespace cow::netlink {

// An event of a process. Events of its other threads are omitted.
struct ProcEvent {
  enum class Kind {
    kFork,  // `process` is new
    kExec,
    kExit,  // the leader ended; other threads may live on
  };
  Kind kind = Kind::kFork;
  pid_t process = 0;
  pid_t parent = 0;  // set for kFork

  bool operator==(const ProcEvent&) const = default;
};

// The kernel's answer to the request to listen.
struct ProcAnswer {
  uint32_t request = 0;  // number of the request
  int error_number = 0;  // 0: the kernel will send events
};

struct ProcMessage {
  std::optional<ProcEvent> event;
  std::optional<ProcAnswer> answer;
};

// Decodes the payload of one netlink message. Both fields are empty if the message is about something else. kMalformed:
// the message is truncated.
Result<ProcMessage> DecodeProcMessage(std::span<const std::byte> bytes);

class ProcEvents {
 public:
  virtual ~ProcEvents() = default;

  // Appends the events since the last call, in order. Returns false if events were lost because they came faster than
  // they were taken.
  virtual bool Take(std::vector<ProcEvent>& events) = 0;
};

// Starts listening. kDenied: the capability is missing, or a namespace is not the initial one. kGone: this kernel or
// this network namespace has no proc connector. kIo: among others, `root` is not this system's procfs, so its pids are
// of other processes.
//
// `room_bytes` is the size of the kernel's buffer for events not yet taken, including its overhead. The kernel doubles
// the value. An event takes 768 bytes. Uses a socket of `given` if there is one.
inline constexpr int kEventRoomBytes = 4 << 20;
Result<std::unique_ptr<ProcEvents>> OpenProcEvents(const procfs::Root& root, int room_bytes, GivenSockets& given);
Result<std::unique_ptr<ProcEvents>> OpenProcEvents(const procfs::Root& root, int room_bytes = kEventRoomBytes);

}  // namespace cow::netlink
