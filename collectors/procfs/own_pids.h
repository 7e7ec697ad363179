// Whether pids below a root are those that this process itself is told by the kernel: its own PID namespace's. Any
// thread.
#pragma once

#include "collectors/base/result.h"
#include "collectors/procfs/root.h"

namespace cow::procfs {

// By root/self, which a procfs resolves to the reader's own pid. kIo where it is another's or no pid at all; errors of
// reading the link as they are.
Result<void> RequireOwnPids(const Root& root);

}  // namespace cow::procfs
