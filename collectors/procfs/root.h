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

class Root {
 public:
  explicit Root(std::string procfs = "/proc", std::string sysfs = "/sys");

  const std::string& procfs() const { return procfs_; }
  const std::string& sysfs() const { return sysfs_; }

  std::string ProcPath(std::string_view file) const;             // procfs/file
  std::string ProcPath(pid_t pid, std::string_view file) const;  // procfs/pid/file
  std::string SysPath(std::string_view file) const;              // sysfs/file

 private:
  std::string procfs_;
  std::string sysfs_;
};

// Reads a whole small text file (open, read to the end, close). No size is assumed: kernel files report 0.
Result<std::string> ReadTextFile(const std::string& path);

// Reads the target of a symbolic link such as /proc/PID/exe or /proc/PID/ns/pid.
Result<std::string> ReadLink(const std::string& path);

}  // namespace cow::procfs
