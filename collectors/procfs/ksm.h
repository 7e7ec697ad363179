// Reads how much of a process KSM has merged: /proc/PID/ksm_merging_pages (5.19 and later) and /proc/PID/ksm_stat (6.1
// and later). Any thread.
#pragma once

#include <cstdint>
#include <optional>

#include "collectors/base/result.h"
#include "collectors/procfs/root.h"

namespace cow::procfs {

// Returns the pages of this process that KSM has merged. Returns 0 if the file is missing while the process lives: the
// kernel was built without KSM. kGone: a zombie or a kernel thread.
Result<uint64_t> ReadKsmMergingPages(const Root& root, TaskId task);

// What KSM does for a process. Fields are empty if the kernel does not report them.
struct KsmStat {
  std::optional<uint64_t> merging_pages;  // mapped to a page that KSM merged
  std::optional<uint64_t> zero_pages;     // merged with the zero page; not counted in the other fields
  std::optional<uint64_t> rmap_items;     // pages that KSM tracks, merged pages included
  std::optional<int64_t> profit_bytes;    // memory saved by merging minus the memory used for tracking
};

// Returns empty fields if the kernel was built without KSM. kGone: a zombie or a kernel thread.
Result<KsmStat> ReadKsmStat(const Root& root, TaskId task);

// Returns true if KSM has merged anything on this host: SYSFS/kernel/mm/ksm/pages_shared exists and is not 0.
bool KsmHasMerged(const Root& root);

}  // namespace cow::procfs
