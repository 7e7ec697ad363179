// Reads delay accounting of tasks (taskstats over generic netlink): how many pages the kernel copied for a process on
// writes to shared pages (wpcopy_count, Linux 5.19), and a record of each thread's end.
//
// Needs CAP_NET_ADMIN and the initial user, PID and network namespaces. kernel.task_delayacct must be 1 before a task
// starts; the kernel counts nothing for other tasks and reports 0. <linux/taskstats.h> defines the layout. Newer
// versions append fields, except that version 15 and version 14 of Linux 6.14.0 moved fields (fixed in 16). This reader
// rejects those two.
//
// This header hides libnl. Use it from one thread.
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

// Identifies a program file. Equal for processes that run the same file.
struct Executable {
  uint64_t device = 0;
  uint64_t inode = 0;

  bool operator==(const Executable&) const = default;
};

// The kernel's record of one task. Pids are those of the initial PID namespace.
struct TaskStats {
  pid_t pid = 0;
  pid_t process = 0;         // tgid
  pid_t parent = 0;          // the current parent, which differs from the forking process if that has ended
  bool forked_only = false;  // AFORK: no exec since the fork
  bool last_thread = false;  // AGROUP: the process ended with it
  Executable executable;
  uint64_t begin_seconds = 0;  // start, in seconds since the epoch by the current clock; may be off by one
  uint64_t copied_pages = 0;   // by this task
};

struct TaskEnd {
  TaskStats task;
  // Pages copied by all threads of the process. Set if this was the last of several threads. May lack a thread that
  // ended at the same moment on another CPU.
  std::optional<uint64_t> process_copied_pages;
};

class Taskstats {
 public:
  virtual ~Taskstats() = default;

  // Returns true if the kernel accounts tasks that start now (kernel.task_delayacct).
  virtual bool AccountingIsOn() = 0;
  // Returns the pages copied by all threads of a process, including ended ones. For some microseconds the kernel counts
  // an ending thread twice. kGone: no such process.
  virtual Result<uint64_t> CopiedPages(pid_t process) = 0;
  // Returns the record of the first thread of a process. kGone: no such process.
  virtual Result<TaskStats> FirstThread(pid_t process) = 0;
  // Appends the task ends since the last call, in the order of the kernel's reports. The ends of one pid are in the
  // order in which they happened.
  virtual void TakeEnds(std::vector<TaskEnd>& ends) = 0;
  // The number of ends lost since the start because they came faster than they were taken.
  virtual uint64_t lost() const = 0;
};

// One socket for questions and one for the kernel's reports. A process opens them before it gives up the right to
// create sockets, and then starts and ends its use of them as often as it likes.
class TaskstatsSockets;
// Never null. OpenTaskstats returns the error if a socket could not be opened. Uses sockets of `given` if there are
// any.
std::shared_ptr<TaskstatsSockets> OpenTaskstatsSockets(GivenSockets& given);
std::shared_ptr<TaskstatsSockets> OpenTaskstatsSockets();

// Tries both sockets on this process. One Taskstats at a time may use them; its end stops the reports. kDenied: the
// capability is missing, or a namespace is not the initial one. kGone: this kernel or this network namespace has no
// taskstats. kMalformed: the struct lacks wpcopy_count or has a rejected layout. kIo: among others, `root` is not this
// system's procfs, so its pids are of other processes.
//
// `room_bytes` is the size of the kernel's buffer for ends not yet taken, including its overhead. The kernel doubles
// the value. An end takes about a kilobyte.
inline constexpr int kRoomBytes = 16 << 20;
Result<std::unique_ptr<Taskstats>> OpenTaskstats(const procfs::Root& root,
                                                 std::shared_ptr<TaskstatsSockets> sockets = OpenTaskstatsSockets(),
                                                 int room_bytes = kRoomBytes);

// Decodes the kernel's struct. kMalformed: as for OpenTaskstats.
Result<TaskStats> DecodeTaskStats(std::span<const std::byte> bytes);
// Decodes the attributes of a report: the task, and its process if this was the last of several threads.
Result<TaskEnd> DecodeTaskEnd(std::span<const std::byte> attributes);

}  // namespace cow::netlink
