#include "collectors/procfs/pagemap_scan.h"

#include <sys/ioctl.h>

#include <array>
#include <cerrno>
#include <string>
#include <utility>

#include "collectors/base/text.h"
#include "collectors/procfs/file_descriptor.h"

namespace cow::procfs {
namespace {

// struct page_region
struct PageRegion {
  uint64_t start;
  uint64_t end;
  uint64_t categories;
};

// struct pm_scan_arg
struct ScanArguments {
  uint64_t size;
  uint64_t flags;
  uint64_t start;
  uint64_t end;
  uint64_t walk_end;  // written by the kernel
  uint64_t vec;
  uint64_t vec_len;
  uint64_t max_pages;
  uint64_t category_inverted;
  uint64_t category_mask;
  uint64_t category_anyof_mask;
  uint64_t return_mask;
};
static_assert(sizeof(PageRegion) == 24 && sizeof(ScanArguments) == 96);

constexpr auto kScanRequest = _IOWR('f', 16, ScanArguments);  // NOLINT: the C macro casts
constexpr size_t kVectorRegions = 256;
constexpr uint64_t kFirstKernelAddress = uint64_t{1} << 63;
constexpr std::array<uint64_t, 4> kCategories{kScanPresent, kScanSwapped, kScanZeroPage, kScanHuge};

// Returns the number of regions written to `vector`, or -1 with errno.
int CallScan(int descriptor, const ScanRequest& request, std::array<PageRegion, kVectorRegions>& vector,
             uint64_t& walk_end) {
  int count = -1;
  do {
    ScanArguments arguments{};
    arguments.size = sizeof(arguments);
    arguments.start = request.start;
    arguments.end = request.end;
    arguments.vec = reinterpret_cast<uintptr_t>(vector.data());
    arguments.vec_len = vector.size();
    arguments.max_pages = request.max_pages;
    arguments.category_anyof_mask = request.any_of;
    arguments.return_mask = request.return_mask;
    count = ioctl(descriptor, kScanRequest, &arguments);
    walk_end = arguments.walk_end;
  } while (count < 0 && errno == EINTR);
  return count;
}

}  // namespace

PagemapScan PagemapScan::Probe(const Root& root, const PageGeometry& geometry) {
  PagemapScan scan;
  const auto descriptor = OpenReadOnly(root, root.ProcPath("self/pagemap"));
  if (!descriptor) return scan;
  std::array<PageRegion, kVectorRegions> vector;
  const uint64_t page = reinterpret_cast<uintptr_t>(&vector) / geometry.page_bytes * geometry.page_bytes;
  uint64_t walk_end = 0;
  for (const uint64_t category : kCategories) {
    const ScanRequest request{page, page + geometry.page_bytes, category, category};
    if (CallScan(descriptor->get(), request, vector, walk_end) >= 0) scan.supported_ |= category;
  }
  return scan;
}

Result<uint64_t> PagemapScan::ScanSlice(const Pagemap& pagemap, const ScanRequest& slice,
                                        std::vector<ScanRegion>& regions, uint64_t& calls) const {
  // The kernel answers EFAULT for kernel addresses. They hold no user memory, though maps lists the vsyscall page.
  if (slice.start >= kFirstKernelAddress) return slice.end;
  std::array<PageRegion, kVectorRegions> vector;
  uint64_t walk_end = 0;
  if (auto error = Intercept(pagemap.file().interposer, Access::kIoctl, pagemap.path())) {
    return tl::unexpected(std::move(*error));
  }
  ++calls;
  const int count = CallScan(pagemap.file().descriptor.get(), slice, vector, walk_end);
  if (count < 0) return tl::unexpected(Error::FromErrno(pagemap.path(), errno));
  if (walk_end <= slice.start || walk_end > slice.end) {
    return tl::unexpected(text::BadField(pagemap.path(), "walk_end of PAGEMAP_SCAN", std::to_string(walk_end)));
  }
  for (size_t i = 0; i < static_cast<size_t>(count); ++i) {
    const PageRegion& region = vector.at(i);
    if (!regions.empty() && regions.back().end == region.start && regions.back().categories == region.categories) {
      regions.back().end = region.end;
    } else {
      regions.push_back({region.start, region.end, region.categories});
    }
  }
  return walk_end;
}

}  // namespace cow::procfs
