#include "collectors/procfs/pagemap.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <limits>
#include <utility>

namespace cow::procfs {
namespace {

constexpr size_t kEntryBytes = sizeof(PageEntry);
constexpr uint64_t kSwapTypeMask = 31;
constexpr uint64_t kSwapTypes = 22;
constexpr uint64_t kSwapTypeBits = 5;
constexpr uint64_t kMarkerType = 31;
constexpr uint64_t kMarkerFlags = 16;  // marker offsets are below it; no anonymous page has so low a frame

// Like pread, but retries after EINTR, and reads nothing if the page's offset is beyond every possible file.
ssize_t ReadAt(int descriptor, void* buffer, size_t bytes, uint64_t first_page, size_t skip_bytes) {
  constexpr auto kMaxOffset = static_cast<uint64_t>(std::numeric_limits<off_t>::max());
  if (first_page > kMaxOffset / kEntryBytes || first_page * kEntryBytes > kMaxOffset - skip_bytes - bytes) return 0;
  ssize_t count = 0;
  do {
    count = pread(descriptor, buffer, bytes, static_cast<off_t>(first_page * kEntryBytes + skip_bytes));
  } while (count < 0 && errno == EINTR);
  return count;
}

}  // namespace

bool PageEntry::IsRealSwap() const { return IsSwap() && !IsGuard() && (bits_ & kSwapTypeMask) < kSwapTypes; }

bool PageEntry::IsMarker() const {
  if (!IsSwap()) return false;
  const uint64_t offset = (bits_ & kPagemapFrameMask) >> kSwapTypeBits;
  return IsGuard() || ((bits_ & kSwapTypeMask) == kMarkerType && offset < kMarkerFlags);
}

Pagemap::Pagemap(FileDescriptor descriptor, std::string path, std::shared_ptr<Interposer> interposer)
    : descriptor_(std::move(descriptor)), path_(std::move(path)), interposer_(std::move(interposer)) {}

Result<Pagemap> Pagemap::Open(const Root& root, TaskId task) {
  std::string path = root.ProcPath(task, "pagemap");
  auto descriptor = OpenReadOnly(root, path);
  if (!descriptor) return tl::unexpected(descriptor.error());
  return Pagemap(std::move(*descriptor), std::move(path), root.interposer());
}

Result<void> Pagemap::Read(PageNumber first_page, std::span<PageEntry> entries) const {
  size_t bytes = 0;
  while (bytes < entries.size_bytes()) {
    if (auto error = Intercept(interposer_, Access::kRead, path_)) return tl::unexpected(std::move(*error));
    const ssize_t count = ReadAt(descriptor(), reinterpret_cast<char*>(entries.data()) + bytes,
                                 entries.size_bytes() - bytes, first_page.number(), bytes);
    if (count < 0) return tl::unexpected(Error::FromErrno(path_, errno));
    if (count == 0) {
      // Either the address space ended or the range is above the last user address.
      if (!Alive()) return tl::unexpected(Error{ErrorKind::kGone, path_, 0, "the address space ended"});
      std::fill(entries.begin() + static_cast<std::ptrdiff_t>(bytes / kEntryBytes), entries.end(), PageEntry());
      break;
    }
    bytes += static_cast<size_t>(count);
  }
  return {};
}

// Page 0 is below the last user address of every process, so its entry can be read while the address space lives,
// mapped or not. An address that the process itself sets, such as its start_stack, would be less reliable.
bool Pagemap::Alive() const {
  if (Intercept(interposer_, Access::kRead, path_)) return true;
  PageEntry entry;
  return ReadAt(descriptor(), &entry, sizeof(entry), 0, 0) != 0;
}

}  // namespace cow::procfs
