// Reads /proc/PID/pagemap: one 64-bit entry per virtual page (fs/proc/task_mmu.c,
// Documentation/admin-guide/mm/pagemap.rst).
//
// Opening needs ptrace read permission. Frame numbers read 0 unless the opener had CAP_SYS_ADMIN in the initial user
// namespace. The descriptor belongs to the address space, not to the pid: after exec or exit it reads 0 bytes. It pins
// the bare mm_struct and none of the target's memory. Reads cost 30 ns per mapped page and hold the target's mmap lock
// for one window at a time. Use a Pagemap from one thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>
#include <utility>

#include "collectors/base/page_numbers.h"
#include "collectors/base/result.h"
#include "collectors/procfs/file_descriptor.h"
#include "collectors/procfs/root.h"

namespace cow::procfs {

// Bits of an entry.
inline constexpr uint64_t kPagemapFrameMask = (uint64_t{1} << 55) - 1;
inline constexpr uint64_t kPagemapSoftDirty = uint64_t{1} << 55;
inline constexpr uint64_t kPagemapMappedOnce = uint64_t{1} << 56;
inline constexpr uint64_t kPagemapUffdWriteProtected = uint64_t{1} << 57;
inline constexpr uint64_t kPagemapGuard = uint64_t{1} << 58;
inline constexpr uint64_t kPagemapFile = uint64_t{1} << 61;
inline constexpr uint64_t kPagemapSwapped = uint64_t{1} << 62;
inline constexpr uint64_t kPagemapPresent = uint64_t{1} << 63;

// One entry as the kernel writes it. Page tables are read into arrays of entries.
class PageEntry {
 public:
  constexpr PageEntry() = default;
  explicit constexpr PageEntry(uint64_t bits) : bits_(bits) {}

  constexpr uint64_t bits() const { return bits_; }

  constexpr bool IsPresent() const { return (bits_ & kPagemapPresent) != 0; }
  // A page of the page cache or of shared memory, or the huge zero page; also set on some swap entries.
  constexpr bool IsFile() const { return (bits_ & kPagemapFile) != 0; }
  constexpr bool IsMappedOnce() const { return (bits_ & kPagemapMappedOnce) != 0; }
  constexpr bool IsGuard() const { return (bits_ & kPagemapGuard) != 0; }
  // Present and not IsFile: an anonymous page, or the base zero page.
  constexpr bool IsAnonymous() const { return (bits_ & (kPagemapPresent | kPagemapFile)) == kPagemapPresent; }
  // Not present, with bit 62: swapped out, migrating, or a marker.
  constexpr bool IsSwap() const { return !IsPresent() && (bits_ & kPagemapSwapped) != 0; }
  // Returns true if the page is in a real swap area: its swap type is below 22 and it is no guard marker. Migration,
  // hwpoison, device-private and marker entries also have bit 62 set.
  bool IsRealSwap() const;
  // Returns true for a marker, an entry that holds no page: a guard region, or an empty place that userfaultfd
  // write-protected or poisoned. Markers use the last swap type and store a few flags as the offset (Linux 5.19,
  // include/linux/swapops.h). Older kernels store page frames as the offsets of this type.
  bool IsMarker() const;
  // Swapped out, migrating, or otherwise not in RAM for now. A marker is not a page.
  bool IsAway() const { return IsSwap() && !IsMarker(); }

  // The PFN of a present page.
  constexpr Pfn Frame() const { return Pfn(bits_ & kPagemapFrameMask); }

  // The entry without these bits.
  constexpr PageEntry Without(uint64_t bits) const { return PageEntry(bits_ & ~bits); }
  // The entry of the page that lies `pages` pages further in the same folio.
  constexpr PageEntry Following(uint64_t pages) const { return PageEntry(bits_ + pages); }

  friend constexpr bool operator==(PageEntry, PageEntry) = default;

 private:
  uint64_t bits_ = 0;
};
static_assert(sizeof(PageEntry) == sizeof(uint64_t) && std::is_trivially_copyable_v<PageEntry>);

class Pagemap {
 public:
  static Result<Pagemap> Open(const Root& root, TaskId task);

  // Fills `entries` with the entries of the virtual pages first_page, first_page + 1, … (page numbers, not addresses).
  // Pages above the last user address read as 0. kGone: the address space ended. The kernel returns 0 bytes in both
  // cases, so Read tries the entry of page 0 to tell them apart. A fixture's file therefore reads as zeros past its end
  // unless it is empty. Allocates only for an error.
  Result<void> Read(PageNumber first_page, std::span<PageEntry> entries) const;

  // Reads one entry. Returns false if the address space ended: its last process exited or executed another program.
  // Returns true if the read fails, because an error proves nothing.
  bool Alive() const;

  const std::string& path() const { return file_.path; }
  const KernelFile& file() const { return file_; }

 private:
  explicit Pagemap(KernelFile file) : file_(std::move(file)) {}
  // Reads nothing if the offset is beyond every possible file.
  Result<size_t> ReadAt(PageNumber first_page, size_t skip_bytes, std::span<std::byte> buffer) const;

  KernelFile file_;
};

}  // namespace cow::procfs
