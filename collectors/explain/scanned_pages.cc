#include "collectors/explain/scanned_pages.h"

#include <algorithm>
#include <iterator>

#include "collectors/memory/read/scan_counters.h"
#include "collectors/procfs/maps.h"
#include "collectors/procfs/pagemap.h"

namespace cow::explain {
namespace {

// Most memory that is walked while the target's mmap lock is held: for dense memory, and for large reservations, where
// the number of pages found bounds the time.
constexpr uint64_t kDenseSliceBytes = uint64_t{32} << 20U;
constexpr uint64_t kSparseSliceBytes = uint64_t{16} << 30U;
constexpr uint64_t kSparseSlicePages = 4096;
constexpr uint64_t kSparseFactor = 6;
constexpr size_t kMaxRegions = size_t{1} << 20;

}  // namespace

Result<ScannedPages> ScannedPages::Read(const procfs::Root& root, procfs::TaskId task, const procfs::PagemapScan& scan,
                                        uint64_t resident_bytes) {
  constexpr uint64_t kWanted = procfs::kScanZeroPage | procfs::kScanHuge;
  const auto pagemap = procfs::Pagemap::Open(root, task);
  if (!pagemap) return tl::unexpected(pagemap.error());
  const auto vmas = procfs::ReadMaps(root, task);
  if (!vmas) return tl::unexpected(vmas.error());
  ScannedPages pages;
  uint64_t calls = 0;
  memory::ScanCounters counters;
  bool too_many = false;
  for (const procfs::Vma& vma : *vmas) {
    if (vma.shared || vma.path == "[vsyscall]") continue;
    const bool sparse = vma.SizeBytes() > kSparseFactor * resident_bytes + kDenseSliceBytes;
    const procfs::ScanRequest request{vma.start, vma.end, sparse ? procfs::kScanPresent : kWanted, kWanted,
                                      sparse ? kSparseSlicePages : 0};
    const auto walked =
        scan.Scan(*pagemap, request, sparse ? kSparseSliceBytes : kDenseSliceBytes, pages.regions_, calls, [&] {
          memory::SleepBriefly(counters);
          too_many = too_many || pages.regions_.size() > kMaxRegions;
          if (too_many) pages.regions_.clear();
        });
    if (!walked) return tl::unexpected(walked.error());
    if (too_many) {
      return tl::unexpected(Error::TooLarge(pagemap->path(), "too many zero and huge pages apart"));
    }
  }
  return pages;
}

uint64_t ScannedPages::Categories(uint64_t address) const {
  const auto after = std::upper_bound(regions_.begin(), regions_.end(), address,
                                      [](uint64_t a, const procfs::ScanRegion& region) { return a < region.start; });
  if (after == regions_.begin()) return 0;
  const procfs::ScanRegion& region = *std::prev(after);
  return address < region.end ? region.categories : 0;
}

}  // namespace cow::explain
