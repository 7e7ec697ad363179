// Reads /proc/PID/cmdline, the arguments of a process. World-readable. Any thread.
//
// A process can rewrite its arguments (setproctitle) or make the kernel show any part of its memory instead
// (PR_SET_MM_MAP). One bounded read limits the cost.
#pragma once

#include <cstddef>
#include <string>

#include "collectors/base/result.h"
#include "collectors/procfs/root.h"

namespace cow::procfs {

inline constexpr size_t kMaxCommandLineBytes = 65536;

// Returns the arguments joined by blanks and cut after kMaxCommandLineBytes; empty if there are none.
Result<std::string> ReadCommandLine(const Root& root, TaskId task);

}  // namespace cow::procfs
