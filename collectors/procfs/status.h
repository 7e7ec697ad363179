// /proc/PID/status: resident sizes by kind and credentials. World-readable. Kernel kB become bytes here. About 20 µs.
// Fields that a kernel does not have, or that a process without memory (kernel thread, zombie) lacks, are empty.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "collectors/base/result.h"
#include "collectors/procfs/root.h"

namespace cow::procfs {

struct Status {
  std::string name;  // unescaped (\n, \\ as the kernel escapes them)
  pid_t tgid = 0;
  pid_t ppid = 0;
  uint32_t effective_uid = 0;
  std::optional<uint64_t> rss_anon_bytes;
  std::optional<uint64_t> rss_file_bytes;
  std::optional<uint64_t> rss_shmem_bytes;
  std::optional<uint64_t> swap_bytes;
  std::optional<uint64_t> hugetlb_bytes;
  bool ignores_children = false;                   // SigIgn has SIGCHLD: it waits for no child, the kernel reaps them
  std::optional<uint64_t> effective_capabilities;  // CapEff bit mask
};

Result<Status> ReadStatus(const Root& root, TaskId task);
// Of the reading process itself: root/self/status.
Result<Status> ReadSelfStatus(const Root& root);
Result<Status> ParseStatus(std::string_view text, const std::string& path);

}  // namespace cow::procfs
