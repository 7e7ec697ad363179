// /proc/PID/pagemap: one 64-bit entry per virtual page (fs/proc/task_mmu.c, Documentation/admin-guide/mm/pagemap.rst).
//
// Opening needs ptrace read permission; frame numbers are shown only if the opener had CAP_SYS_ADMIN in the initial
// user namespace, else they read 0. The descriptor belongs to the address space, not to the pid: after exec or exit it
// reads 0 bytes. It pins the bare mm_struct, none of the target's memory. Reads cost 30 ns a mapped page and hold the
// target's mmap lock for one window at a time. A Pagemap is used by one thread at a time.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>

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

// True for an entry whose swap type is a real swap area: below 22 and not a guard marker. The others (migration,
// hwpoison, device-private, markers) also have bit 62 set.
bool IsRealSwap(uint64_t entry);

// True for an entry that only marks a place and holds no page: guard regions, and what userfaultfd leaves where it
// write-protects or poisons nothing. They have the last swap type and, for an offset, a few flags (Linux 5.19,
// include/linux/swapops.h); before, this type's offsets were page frames.
bool IsMarker(uint64_t entry);

class Pagemap {
 public:
  static Result<Pagemap> Open(const Root& root, TaskId task);

  // Fills `entries` with those of the virtual pages first_page, first_page + 1, … (page numbers, not addresses). kGone
  // when the address space ended; pages above the last user address read as zero entries (the kernel gives 0 bytes for
  // both: the entry of page 0 tells which it was, so that a fixture's file reads as zeros past its end unless it is
  // empty). Never allocates but for an error.
  Result<void> Read(uint64_t first_page, std::span<uint64_t> entries) const;

  // One entry's read: false when the address space has ended, because the last process in it exited or executed another
  // program. A read that fails tells nothing: true.
  bool Alive() const;

  int descriptor() const { return descriptor_.get(); }
  const std::string& path() const { return path_; }
  const std::shared_ptr<Interposer>& interposer() const { return interposer_; }

 private:
  Pagemap(FileDescriptor descriptor, std::string path, std::shared_ptr<Interposer> interposer);
  FileDescriptor descriptor_;
  std::string path_;
  std::shared_ptr<Interposer> interposer_;
};

}  // namespace cow::procfs
