// KSM use of a process: /proc/PID/ksm_merging_pages (5.19 and later) and /proc/PID/ksm_stat (6.1 and later).
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>

#include "collectors/base/result.h"
#include "collectors/procfs/root.h"

namespace cow::procfs {

// Pages of this process that KSM has merged. 0 where the kernel was built without KSM (the file is missing while the
// process lives); kGone for a zombie or kernel thread.
Result<uint64_t> ReadKsmMergingPages(const Root& root, TaskId task);

// What KSM does for a process; what the kernel does not tell is empty.
struct KsmStat {
  std::optional<uint64_t> merging_pages;  // mapped to a page that KSM merged
  std::optional<uint64_t> zero_pages;  // merged with the zero page: they cost nothing at all, and are not in the others
  std::optional<uint64_t> rmap_items;  // pages that KSM keeps track of, merged ones included
  std::optional<int64_t> profit_bytes;  // saved by merging, less what keeping track of the pages costs
};

// All empty where the kernel was built without KSM; kGone for a zombie or kernel thread.
Result<KsmStat> ReadKsmStat(const Root& root, TaskId task);

// True if KSM has merged anything on this host: root sys/kernel/mm/ksm/pages_shared is there and not 0.
bool KsmHasMerged(const Root& root);

}  // namespace cow::procfs
