// Delay accounting of tasks (taskstats over generic netlink): how many pages the kernel copied for a process because it
// wrote to shared ones (wpcopy_count, Linux 5.19), and a record of each thread's end.
//
// Needs CAP_NET_ADMIN, the initial user, PID and network namespaces, and kernel.task_delayacct=1 before a task starts:
// of a task that started without it the kernel counts nothing, and says 0. Layout: <linux/taskstats.h>, where fields of
// later versions follow; but version 15, and 14 of Linux 6.14.0, moved them (fixed in 16), and are refused.
//
// libnl stays behind this header. Used by one thread.
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

// A program file, as the kernel numbers it: equal for processes that run the same one.
struct Executable {
  uint64_t device = 0;
  uint64_t inode = 0;

  bool operator==(const Executable&) const = default;
};

// What is known of one task. Pids are those of the initial PID namespace.
struct TaskStats {
  pid_t pid = 0;
  pid_t process = 0;         // tgid
  pid_t parent = 0;          // process that would be told of its end: not the one that forked it, if that ended before
  bool forked_only = false;  // AFORK: no exec since it was made
  bool last_thread = false;  // AGROUP: the process ended with it
  Executable executable;
  uint64_t begin_seconds = 0;  // since the epoch, by the clock of the moment of asking: give or take one
  uint64_t copied_pages = 0;   // by this task
};

struct TaskEnd {
  TaskStats task;
  // Of a last thread whose process had others before: what all of them had copied. The kernel may have missed one that
  // ended in the same moment on another CPU.
  std::optional<uint64_t> process_copied_pages;
};

class Taskstats {
 public:
  virtual ~Taskstats() = default;

  // Whether tasks that start now are accounted (kernel.task_delayacct).
  virtual bool AccountingIsOn() = 0;
  // Pages copied by all threads of a process, ended ones included. While a thread ends it is counted twice for some
  // microseconds. kGone: no such process.
  virtual Result<uint64_t> CopiedPages(pid_t process) = 0;
  // Its first thread. kGone as well.
  virtual Result<TaskStats> FirstThread(pid_t process) = 0;
  // Appends the ends of tasks since the last call, in the order in which they were reported. Of one pid the order is
  // that of the ends.
  virtual void TakeEnds(std::vector<TaskEnd>& ends) = 0;
  // Ends that were lost since the start because they came faster than they were taken.
  virtual uint64_t lost() const = 0;
};

// Opens both ways to the kernel, the questions and the reports, and tries them on this process. kDenied: a capability
// is missing, or this is no initial namespace; kGone: no taskstats here (not in this kernel, or not in this network
// namespace); kMalformed: a struct without wpcopy_count, or of a refused layout. kIo as well where `root` is not this
// system's procfs, whose pids would mean other processes.
//
// `room_bytes`: what the kernel keeps of ends that were not taken yet, its own overhead included; twice that in the
// end. An end takes about a kilobyte.
inline constexpr int kRoomBytes = 16 << 20;
Result<std::unique_ptr<Taskstats>> OpenTaskstats(const procfs::Root& root, int room_bytes = kRoomBytes);

// The struct as the kernel sent it. kMalformed as above.
Result<TaskStats> DecodeTaskStats(std::span<const std::byte> bytes);
// The attributes of a report: of the task, and of its process where it was the last thread of several.
Result<TaskEnd> DecodeTaskEnd(std::span<const std::byte> attributes);

}  // namespace cow::netlink
