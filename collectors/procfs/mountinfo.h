// Reads /proc/PID/mountinfo, which tells the filesystem type behind a VMA's device number. World-readable. Streams the
// text, because the owner of a mount namespace can make tens of thousands of mounts. Not thread-safe.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "collectors/base/result.h"
#include "collectors/procfs/line_reader.h"
#include "collectors/procfs/root.h"

namespace cow::procfs {

struct Mount {
  uint32_t device_major = 0;
  uint32_t device_minor = 0;
  std::string mount_point;      // unescaped
  std::string filesystem_type;  // "tmpfs", "hugetlbfs", "ext4", "proc"…
  std::string mount_options;
  std::string super_options;
};

class MountinfoReader {
 public:
  static Result<MountinfoReader> Open(const Root& root, TaskId task);
  // Opens root/self/mountinfo, the file of the reading process itself.
  static Result<MountinfoReader> OpenSelf(const Root& root);

  // Returns the next mount, valid until the next call; null at the end. Skips a mount whose line is longer than 64 KiB.
  // kTooLarge: more than 16 MiB of text, which exceeds the default fs.mount-max with paths of usual length.
  Result<const Mount*> Next();

 private:
  explicit MountinfoReader(LineReader lines) : lines_(std::move(lines)) {}
  static Result<MountinfoReader> OpenPath(const Root& root, std::string path);

  LineReader lines_;
  Mount mount_;
};

}  // namespace cow::procfs
