// The processes below a root, and the threads of one: numeric directories of /proc.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <vector>

#include "collectors/base/result.h"
#include "collectors/procfs/root.h"

namespace cow::procfs {

// Process ids (thread group leaders) in ascending order. About 0.5 µs per process. Any thread.
Result<std::vector<pid_t>> ListProcesses(const Root& root);

inline constexpr size_t kMaxListedThreads = 1024;

// Ids of the first threads of a process in ascending order, a leader that has ended included: /proc/PID/task.
Result<std::vector<pid_t>> ListThreads(const Root& root, pid_t pid);

}  // namespace cow::procfs
