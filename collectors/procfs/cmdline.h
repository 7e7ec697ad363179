// /proc/PID/cmdline: the arguments. World-readable. A process can rewrite them (setproctitle), and have the kernel show
// any part of its memory as its arguments (PR_SET_MM_MAP): one bounded read takes what is needed.
#pragma once

#include <cstddef>
#include <string>

#include "collectors/base/result.h"
#include "collectors/procfs/root.h"

namespace cow::procfs {

inline constexpr size_t kMaxCommandLineBytes = 65536;

// The arguments joined by blanks, cut after kMaxCommandLineBytes; empty where there are none.
Result<std::string> ReadCommandLine(const Root& root, TaskId task);

}  // namespace cow::procfs
