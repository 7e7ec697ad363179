// Where the kernel's files are: /proc and /sys, or a fixture tree that looks like them.
//
// The root is a value that is handed to every reader; there is no global one. Copies are cheap enough to store. A Root
// is immutable after construction and may be shared by threads.
//
// Everything that touches those files goes by a Root, so that a test can stand between the readers and the kernel: see
// Interposer.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "collectors/base/result.h"

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

// What a reader is about to do.
enum class Access {
  kOpen,     // a file or a directory
  kRead,     // one read of an open file; all entries of a directory
  kLink,     // readlink
  kIoctl,    // PAGEMAP_SCAN
  kCompare,  // kcmp
};

// For tests only: is asked before each access, where it may make a process end, or fail the access. The program has
// none, which costs the test of a pointer.
class Interposer {
 public:
  virtual ~Interposer() = default;
  // An error is what the reader gets; the access is then not made.
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

// The interposer's error for this access; empty where there is none.
inline std::optional<Error> Intercept(const std::shared_ptr<Interposer>& interposer, Access access,
                                      const std::string& path) {
  if (interposer == nullptr) return std::nullopt;
  return interposer->Before(access, path);
}

// Far above what the kernel writes into any file that is read as a whole.
inline constexpr size_t kMaxTextBytes = size_t{4} << 20;

// Reads a whole small text file of `root` (open, read to the end, close). No size is assumed: kernel files report 0.
// kTooLarge beyond `max_bytes`: files that grow with what a process does are read by a LineReader instead.
Result<std::string> ReadTextFile(const Root& root, const std::string& path, size_t max_bytes = kMaxTextBytes);

// Reads the target of a symbolic link such as /proc/PID/exe or /proc/PID/ns/pid.
Result<std::string> ReadLink(const Root& root, const std::string& path);

}  // namespace cow::procfs
