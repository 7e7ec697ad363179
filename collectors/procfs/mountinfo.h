// /proc/PID/mountinfo: which filesystem type a VMA's device number belongs to. World-readable.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "collectors/procfs/result.h"
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

Result<std::vector<Mount>> ReadMountinfo(const Root& root, TaskId task);
Result<std::vector<Mount>> ReadSelfMountinfo(const Root& root);
Result<std::vector<Mount>> ParseMountinfo(std::string_view text, const std::string& path);

}  // namespace cow::procfs
