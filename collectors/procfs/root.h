// Where the kernel's files are: /proc and /sys, or a fixture tree that looks like them.
//
// The root is a value that is handed to every reader; there is no global one. Copies are cheap enough to store. A Root
// is immutable after construction and may be shared by threads.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>

#include "collectors/procfs/result.h"

namespace cow::procfs {

// Whose files are meant: those of a process, or of one of its threads. A zombie leader has no memory to show while
// other threads of the process live on: PID/task/THREAD shows it.
struct TaskId {
  TaskId(pid_t process) : pid(process) {}  // NOLINT(google-explicit-constructor): a pid names its process
  TaskId(pid_t process, pid_t of_thread) : pid(process), thread(of_thread) {}

  pid_t pid = 0;
  pid_t thread = 0;  // 0: the process, as its leader shows it

  // The thread's or, where none is named, the leader's: what system calls want.
  pid_t KernelId() const { return thread == 0 ? pid : thread; }
  bool operator==(const TaskId&) const = default;
};

class Root {
 public:
  explicit Root(std::string procfs = "/proc", std::string sysfs = "/sys");

  const std::string& procfs() const { return procfs_; }
  const std::string& sysfs() const { return sysfs_; }

  std::string ProcPath(std::string_view file) const;               // procfs/file
  std::string ProcPath(TaskId task, std::string_view file) const;  // procfs/pid/file or procfs/pid/task/thread/file
  std::string SysPath(std::string_view file) const;                // sysfs/file

 private:
  std::string procfs_;
  std::string sysfs_;
};

// Reads a whole small text file (open, read to the end, close). No size is assumed: kernel files report 0.
Result<std::string> ReadTextFile(const std::string& path);

// Reads the target of a symbolic link such as /proc/PID/exe or /proc/PID/ns/pid.
Result<std::string> ReadLink(const std::string& path);

}  // namespace cow::procfs
