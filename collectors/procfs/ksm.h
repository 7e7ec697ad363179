// KSM use of a process: /proc/PID/ksm_merging_pages (5.19 and later).
#pragma once

#include <sys/types.h>

#include <cstdint>

#include "collectors/procfs/result.h"
#include "collectors/procfs/root.h"

namespace cow::procfs {

// Pages of this process that KSM has merged. 0 where the kernel was built without KSM (the file is missing while the
// process lives); kGone for a zombie or kernel thread.
Result<uint64_t> ReadKsmMergingPages(const Root& root, pid_t pid);

// True if KSM has merged anything on this host: root sys/kernel/mm/ksm/pages_shared is there and not 0.
bool KsmHasMerged(const Root& root);

}  // namespace cow::procfs
