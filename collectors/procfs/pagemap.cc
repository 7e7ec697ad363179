#include "collectors/procfs/pagemap.h"

#include <sys/types.h>

#include <algorithm>
#include <limits>

namespace cow::procfs {
namespace {

constexpr size_t kEntryBytes = sizeof(PageEntry);
constexpr uint64_t kSwapTypeMask = 31;
constexpr uint64_t kSwapTypes = 22;
constexpr uint64_t kSwapTypeBits = 5;
constexpr uint64_t kMarkerType = 31;
constexpr uint64_t kMarkerFlags = 16;  // marker offsets are below it; no anonymous page has so low a frame

}  // namespace

bool PageEntry::IsRealSwap() const { return IsSwap() && !IsGuard() && (bits_ & kSwapTypeMask) < kSwapTypes; }

bool PageEntry::IsMarker() const {
  if (!IsSwap()) return false;
  const uint64_t offset = (bits_ & kPagemapFrameMask) >> kSwapTypeBits;
  return IsGuard() || ((bits_ & kSwapTypeMask) == kMarkerType && offset < kMarkerFlags);
}

Result<Pagemap> Pagemap::Open(const Root& root, TaskId task) {
  return KernelFile::Open(root, root.ProcPath(task, "pagemap")).map([](KernelFile&& file) {
    return Pagemap(std::move(file));
  });
}

Result<size_t> Pagemap::ReadAt(PageNumber first_page, size_t skip_bytes, std::span<std::byte> buffer) const {
  constexpr auto kMaxOffset = static_cast<uint64_t>(std::numeric_limits<off_t>::max());
  const uint64_t page = first_page.number();
  if (page > kMaxOffset / kEntryBytes || page * kEntryBytes > kMaxOffset - skip_bytes - buffer.size()) return 0;
  return file_.Read(buffer, page * kEntryBytes + skip_bytes);
}

Result<void> Pagemap::Read(PageNumber first_page, std::span<PageEntry> entries) const {
  const std::span<std::byte> wanted = std::as_writable_bytes(entries);
  for (size_t bytes = 0; bytes < wanted.size();) {
    const auto count = ReadAt(first_page, bytes, wanted.subspan(bytes));
    if (!count) return tl::unexpected(count.error());
    if (*count == 0) {
      // Either the address space ended or the range is above the last user address.
      if (!Alive()) return tl::unexpected(Error{ErrorKind::kGone, file_.path, 0, "the address space ended"});
      std::fill(entries.begin() + static_cast<std::ptrdiff_t>(bytes / kEntryBytes), entries.end(), PageEntry());
      break;
    }
    bytes += *count;
  }
  return {};
}

// Page 0 is below the last user address of every process, so its entry can be read while the address space lives,
// mapped or not. An address that the process itself sets, such as its start_stack, would be less reliable.
bool Pagemap::Alive() const {
  PageEntry entry;
  return ReadAt(PageNumber(), 0, std::as_writable_bytes(std::span(&entry, 1))).value_or(1) != 0;
}

}  // namespace cow::procfs
