// /proc/PID/mountinfo: which filesystem type a VMA's device number belongs to. World-readable. The text is read as a
// stream, mount by mount: a mount namespace has tens of thousands of them where its owner likes.
#pragma once

#include <sys/types.h>

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
  // Of the reading process itself: root/self/mountinfo.
  static Result<MountinfoReader> OpenSelf(const Root& root);

  // The next mount, valid until the next call; null at the end. A mount whose line is longer than 64 KiB is left out.
  // kTooLarge beyond 16 MiB of text, which is more than the default of fs.mount-max gives with paths of usual lengths.
  Result<const Mount*> Next();

 private:
  explicit MountinfoReader(LineReader lines) : lines_(std::move(lines)) {}
  static Result<MountinfoReader> OpenPath(const Root& root, std::string path);

  LineReader lines_;
  Mount mount_;
};

}  // namespace cow::procfs
