// /proc/kpageflags and /proc/kpagecount: one 64-bit word per page frame (fs/proc/page.c). Mode 0400: uid 0 or
// CAP_DAC_READ_SEARCH. 85 to 140 ns a frame in sorted runs, 400 ns in single reads. One thread at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "collectors/base/result.h"
#include "collectors/procfs/file_descriptor.h"
#include "collectors/procfs/root.h"

namespace cow::procfs {

// Bits of kpageflags (include/uapi/linux/kernel-page-flags.h, include/linux/kernel-page-flags.h).
inline constexpr uint64_t kFrameAnon = uint64_t{1} << 12;
inline constexpr uint64_t kFrameSwapBacked = uint64_t{1} << 14;
inline constexpr uint64_t kFrameCompoundHead = uint64_t{1} << 15;
inline constexpr uint64_t kFrameCompoundTail = uint64_t{1} << 16;
inline constexpr uint64_t kFrameHugetlb = uint64_t{1} << 17;
inline constexpr uint64_t kFrameKsm = uint64_t{1} << 21;
inline constexpr uint64_t kFrameThp = uint64_t{1} << 22;
inline constexpr uint64_t kFrameZeroPage = uint64_t{1} << 24;
// The kernel's AnonExclusive mark on an anonymous page (5.19 and later): fork clears it; a copy, a reuse or a fresh
// page sets it. On 6.12 and later it is the folio head's, so it says nothing about single pages of a large folio mapped
// by PTEs.
inline constexpr uint64_t kFrameAnonExclusive = uint64_t{1} << 34;

class KpageFile {
 public:
  static Result<KpageFile> OpenFlags(const Root& root);
  static Result<KpageFile> OpenCounts(const Root& root);

  // words[i] becomes the word of frames[i]. `frames` is sorted ascending (duplicates allowed); neighbours that are
  // close together are read in one pread. `reads` is increased by the preads made. A frame beyond the end of the file
  // reads 0.
  Result<void> Read(std::span<const uint64_t> frames, std::span<uint64_t> words, uint64_t& reads) const;

 private:
  KpageFile(FileDescriptor descriptor, std::string path, std::shared_ptr<Interposer> interposer);
  static Result<KpageFile> Open(const Root& root, std::string path);
  FileDescriptor descriptor_;
  std::string path_;
  std::shared_ptr<Interposer> interposer_;
};

}  // namespace cow::procfs
