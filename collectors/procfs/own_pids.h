// Checks whether the pids below a root belong to the PID namespace of this process. Reads root/self. Any thread.
#pragma once

#include "collectors/base/result.h"
#include "collectors/procfs/root.h"

namespace cow::procfs {

// Succeeds if root/self, which a procfs resolves to the reader's pid, is this process' pid. kIo: it is something else.
// Passes on errors of reading the link.
Result<void> RequireOwnPids(const Root& root);

}  // namespace cow::procfs
