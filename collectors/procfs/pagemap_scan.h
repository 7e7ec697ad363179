// The PAGEMAP_SCAN ioctl on a pagemap descriptor (Linux 6.7 and later; include/uapi/linux/fs.h): ranges of pages by
// category, without frames. Holes are skipped at page-table level, so 1 TiB of nothing costs microseconds. The kernel
// walks under one hold of the target's mmap lock until the vector is full: ranges are cut into slices here. The
// structures are declared here, because Debian 12's headers are older than the ioctl.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "collectors/base/result.h"
#include "collectors/procfs/pagemap.h"
#include "collectors/procfs/root.h"
#include "collectors/procfs/system.h"

namespace cow::procfs {

// Categories: PAGE_IS_* of the kernel.
inline constexpr uint64_t kScanWriteProtectAllowed = 1 << 0;
inline constexpr uint64_t kScanWritten = 1 << 1;
inline constexpr uint64_t kScanFile = 1 << 2;
inline constexpr uint64_t kScanPresent = 1 << 3;
inline constexpr uint64_t kScanSwapped = 1 << 4;
inline constexpr uint64_t kScanZeroPage = 1 << 5;
inline constexpr uint64_t kScanHuge = 1 << 6;
inline constexpr uint64_t kScanSoftDirty = 1 << 7;
inline constexpr uint64_t kScanGuard = 1 << 8;

struct ScanRegion {
  uint64_t start = 0;  // addresses
  uint64_t end = 0;
  uint64_t categories = 0;  // restricted to the request's return mask
};

struct ScanRequest {
  uint64_t start = 0;  // addresses, aligned to pages
  uint64_t end = 0;
  uint64_t any_of = 0;       // a page is reported if it has one of these
  uint64_t return_mask = 0;  // which categories to report
  uint64_t max_pages = 0;    // stop after this many matching pages, 0: no limit; bounds one hold of the lock
};

// What the kernel below a root can do. Immutable after Probe.
class PagemapScan {
 public:
  // Asks the kernel bit by bit on root/self/pagemap: an unknown bit is EINVAL, a kernel without the ioctl ENOTTY.
  static PagemapScan Probe(const Root& root, const PageGeometry& geometry);

  bool available() const { return supported_ != 0; }
  bool Supports(uint64_t categories) const { return (supported_ & categories) == categories; }
  uint64_t supported() const { return supported_; }

  // Appends the matching regions to `regions`, in ascending order; neighbours of equal categories are merged also
  // across slices. The range is walked in slices of at most `slice_bytes`; after each `between_slices` is called so
  // that the target can rest (the scanner sleeps there). `calls` is increased by the number of ioctls made. kGone when
  // the address space ended (some kernels report this as success with nothing found: the caller's liveness check finds
  // those).
  template <class BetweenSlices>
  Result<void> Scan(const Pagemap& pagemap, const ScanRequest& request, uint64_t slice_bytes,
                    std::vector<ScanRegion>& regions, uint64_t& calls, BetweenSlices&& between_slices) const {
    for (uint64_t start = request.start; start < request.end;) {
      const uint64_t end = request.end - start > slice_bytes ? start + slice_bytes : request.end;
      auto walked =
          ScanSlice(pagemap, {start, end, request.any_of, request.return_mask, request.max_pages}, regions, calls);
      if (!walked) return tl::unexpected(walked.error());
      start = *walked;
      if (start < request.end) between_slices();
    }
    return {};
  }

 private:
  // One ioctl: returns the address up to which the kernel walked (the vector may fill before the end).
  Result<uint64_t> ScanSlice(const Pagemap& pagemap, const ScanRequest& slice, std::vector<ScanRegion>& regions,
                             uint64_t& calls) const;

  uint64_t supported_ = 0;
};

}  // namespace cow::procfs
