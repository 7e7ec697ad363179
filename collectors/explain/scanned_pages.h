// Finds the zero pages and huge pages of a process whose frames are hidden, by PAGEMAP_SCAN.
//
// Needs the same rights as the pagemap. Not thread-safe.
#pragma once

#include <cstdint>
#include <vector>

#include "collectors/base/result.h"
#include "collectors/procfs/pagemap_scan.h"
#include "collectors/procfs/root.h"

namespace cow::explain {

class ScannedPages {
 public:
  // Walks the private mappings of `task` in slices with a rest after each. Fails if there are too many separate
  // regions.
  static Result<ScannedPages> Read(const procfs::Root& root, procfs::TaskId task, const procfs::PagemapScan& scan,
                                   uint64_t resident_bytes);

  // Returns the categories (kScanZeroPage, kScanHuge) of the page at `address`.
  uint64_t Categories(uint64_t address) const;

 private:
  std::vector<procfs::ScanRegion> regions_;  // ascending
};

}  // namespace cow::explain
