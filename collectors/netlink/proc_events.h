// Forks, execs and exits as they happen (the kernel's proc connector over netlink, CONFIG_PROC_EVENTS).
//
// Needs CAP_NET_ADMIN and the initial network, user and PID namespaces. Layout: <linux/cn_proc.h>. libnl stays behind
// this header. Used by one thread.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "collectors/base/result.h"
#include "collectors/procfs/root.h"

namespace cow::netlink {

// What happened to a process; what concerns further threads of one is left out.
struct ProcEvent {
  enum class Kind {
    kFork,  // `process` is new
    kExec,
    kExit,  // of its leader: other threads may live on
  };
  Kind kind = Kind::kFork;
  pid_t process = 0;
  pid_t parent = 0;  // of kFork

  bool operator==(const ProcEvent&) const = default;
};

// The kernel's answer to the request to listen.
struct ProcAnswer {
  uint32_t request = 0;  // its number
  int error_number = 0;  // 0: events will come
};

struct ProcMessage {
  std::optional<ProcEvent> event;
  std::optional<ProcAnswer> answer;
};

// One message as the kernel sent it, behind the netlink header. Both are empty in messages about something else.
// kMalformed: cut short.
Result<ProcMessage> DecodeProcMessage(std::span<const std::byte> bytes);

class ProcEvents {
 public:
  virtual ~ProcEvents() = default;

  // Appends what happened since the last call, in its order. False if some of it was lost because it came faster than
  // it was taken.
  virtual bool Take(std::vector<ProcEvent>& events) = 0;
};

// kDenied: no capability, or not the initial namespaces; kGone: no proc connector here (not in this kernel, or not in
// this network namespace). kIo as well where `root` is not this system's procfs, whose pids would mean other processes.
//
// `room_bytes`: what the kernel keeps of events that were not taken yet, its own overhead included; twice that in the
// end. An event takes 768 bytes.
inline constexpr int kEventRoomBytes = 4 << 20;
Result<std::unique_ptr<ProcEvents>> OpenProcEvents(const procfs::Root& root, int room_bytes = kEventRoomBytes);

}  // namespace cow::netlink
