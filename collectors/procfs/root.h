// Names the directories of the kernel's files: /proc and /sys, or a fixture tree with the same layout.
//
// Each reader receives a Root; there is no global one. Copies are cheap. A Root is immutable after construction, so
// threads may share it.
//
// All access to these files goes through a Root, so that a test can intercept it: see Interposer.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "collectors/base/result.h"

namespace cow::procfs {

// Selects the files of a process or of one of its threads. If the leader is a zombie while other threads live on, its
// files show no memory; /proc/PID/task/THREAD of a living thread does.
struct TaskId {
  TaskId(pid_t process) : pid(process) {}  // NOLINT(google-explicit-constructor): a pid names its process
  TaskId(pid_t process, pid_t of_thread) : pid(process), thread(of_thread) {}

  pid_t pid = 0;
  pid_t thread = 0;  // 0: the process itself, as its leader shows it

  // The id for system calls: the thread's if there is one, else the leader's.
  pid_t KernelId() const { return thread == 0 ? pid : thread; }
  bool operator==(const TaskId&) const = default;
};

// An access that a reader is about to make.
enum class Access {
  kOpen,     // a file or a directory
  kRead,     // one read of an open file; all entries of a directory
  kLink,     // readlink
  kIoctl,    // PAGEMAP_SCAN
  kCompare,  // kcmp
};

// For tests only. Runs before each access, where it can end a process or fail the access. The program has no
// interposer and pays for one comparison of a pointer.
class Interposer {
 public:
  virtual ~Interposer() = default;
  // If this returns an error, the reader fails with it and skips the access.
  virtual std::optional<Error> Before(Access access, const std::string& path) = 0;
};

class Root {
 public:
  explicit Root(std::string procfs = "/proc", std::string sysfs = "/sys",
                std::shared_ptr<Interposer> interposer = nullptr);

  const std::string& procfs() const { return procfs_; }
  const std::string& sysfs() const { return sysfs_; }

  std::string ProcPath(std::string_view file) const;               // procfs/file
  std::string ProcPath(TaskId task, std::string_view file) const;  // procfs/pid/file or procfs/pid/task/thread/file
  std::string SysPath(std::string_view file) const;                // sysfs/file

  const std::shared_ptr<Interposer>& interposer() const { return interposer_; }

 private:
  std::string procfs_;
  std::string sysfs_;
  std::shared_ptr<Interposer> interposer_;
};

// Returns the interposer's error for this access; empty if the access may go on.
inline std::optional<Error> Intercept(const std::shared_ptr<Interposer>& interposer, Access access,
                                      const std::string& path) {
  if (interposer == nullptr) return std::nullopt;
  return interposer->Before(access, path);
}

// Far above the size of any kernel file that is read as a whole.
inline constexpr size_t kMaxTextBytes = size_t{4} << 20;

// Reads a whole small text file of `root`: opens it, reads to the end and closes it. Ignores the reported size, which
// is 0 for kernel files. kTooLarge: longer than `max_bytes`. Use a LineReader for files that a process can make long.
Result<std::string> ReadTextFile(const Root& root, const std::string& path, size_t max_bytes = kMaxTextBytes);

// Reads the target of a symbolic link such as /proc/PID/exe or /proc/PID/ns/pid.
Result<std::string> ReadLink(const Root& root, const std::string& path);

// Succeeds if the pids below the root belong to the PID namespace of this process: root/self, which a procfs resolves
// to the reader's pid, is this process' pid. kIo: it is something else. Passes on errors of reading the link.
Result<void> RequireOwnPids(const Root& root);

}  // namespace cow::procfs
