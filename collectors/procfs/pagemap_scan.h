// Calls the PAGEMAP_SCAN ioctl on a pagemap descriptor (Linux 6.7 and later; include/uapi/linux/fs.h). It reports
// ranges of pages by category, without frames.
//
// The kernel skips holes at page-table level, so 1 TiB of holes costs microseconds. It holds the target's mmap lock
// until the vector is full; Scan therefore cuts a range into slices. This room declares the kernel's structures itself
// because the headers of Debian 12 are older than the ioctl. Any thread.
#pragma once

#include <cstdint>
#include <vector>

#include "collectors/base/result.h"
#include "collectors/procfs/pagemap.h"
#include "collectors/procfs/root.h"
#include "collectors/procfs/system.h"

namespace cow::procfs {

// Categories: PAGE_IS_* of the kernel.
inline constexpr uint64_t kScanPresent = 1 << 3;
inline constexpr uint64_t kScanSwapped = 1 << 4;
inline constexpr uint64_t kScanZeroPage = 1 << 5;
inline constexpr uint64_t kScanHuge = 1 << 6;

struct ScanRegion {
  uint64_t start = 0;       // address of the first byte
  uint64_t end = 0;         // address past the last byte
  uint64_t categories = 0;  // restricted to the request's return mask
};

struct ScanRequest {
  uint64_t start = 0;        // address of the first byte, aligned to pages
  uint64_t end = 0;          // address past the last byte, aligned to pages
  uint64_t any_of = 0;       // reports pages in at least one of these categories
  uint64_t return_mask = 0;  // categories to report
  uint64_t max_pages = 0;    // stops after this many matching pages, which bounds one hold of the lock; 0: no limit
};

// The categories that the kernel supports. Immutable after Probe.
class PagemapScan {
 public:
  // Tries each category on root/self/pagemap. The kernel answers EINVAL to an unknown bit, and ENOTTY if it lacks the
  // ioctl.
  static PagemapScan Probe(const Root& root, const PageGeometry& geometry);

  bool available() const { return supported_ != 0; }
  bool Supports(uint64_t categories) const { return (supported_ & categories) == categories; }

  // Appends the matching regions to `regions` in ascending order and merges neighbours of equal categories, also across
  // slices. Walks the range in slices of at most `slice_bytes` and calls `between_slices` between two slices, so that
  // the target can rest. Adds the number of ioctls to `calls`. kGone: the address space ended. Some kernels report
  // success with no regions instead, so the caller must check that the process lives.
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
  // Makes one ioctl. Returns the address up to which the kernel walked; the vector may fill before the slice ends.
  Result<uint64_t> ScanSlice(const Pagemap& pagemap, const ScanRequest& slice, std::vector<ScanRegion>& regions,
                             uint64_t& calls) const;

  uint64_t supported_ = 0;
};

}  // namespace cow::procfs
