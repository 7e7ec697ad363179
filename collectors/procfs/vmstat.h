// Reads the counters of /proc/vmstat that reveal changes to page tables without a fault of the process. They count for
// the whole host. World-readable. Any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "collectors/base/result.h"
#include "collectors/procfs/root.h"

namespace cow::procfs {

// Events since boot; 0 if the kernel does not count them.
struct Vmstat {
  uint64_t swapped_in_pages = 0;   // pswpin + zswpin + swpin_zero: read, decompressed, or known to be zeros
  uint64_t swapped_out_pages = 0;  // pswpout
  uint64_t huge_collapses = 0;     // thp_collapse_alloc
  uint64_t migrated_pages = 0;     // pgmigrate_success

  bool operator==(const Vmstat&) const = default;
};

Result<Vmstat> ReadVmstat(const Root& root);
Result<Vmstat> ParseVmstat(std::string_view text, const std::string& path);

}  // namespace cow::procfs
