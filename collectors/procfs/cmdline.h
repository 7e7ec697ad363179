// /proc/PID/cmdline: the arguments. World-readable. A process can rewrite them (setproctitle).
#pragma once

#include <cstddef>
#include <string>

#include "collectors/procfs/result.h"
#include "collectors/procfs/root.h"

namespace cow::procfs {

inline constexpr size_t kMaxCommandLineBytes = 65536;

// The arguments joined by blanks, cut after kMaxCommandLineBytes; empty where there are none.
Result<std::string> ReadCommandLine(const Root& root, TaskId task);

}  // namespace cow::procfs
