// Reads /proc/kpageflags and /proc/kpagecount: one 64-bit word per page frame (fs/proc/page.c). Mode 0400: needs uid 0
// or CAP_DAC_READ_SEARCH. A frame costs 85 to 140 ns in sorted runs and 400 ns in single reads. Use a KpageFile from
// one thread at a time.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>

#include "collectors/base/page_numbers.h"
#include "collectors/base/result.h"
#include "collectors/procfs/file_descriptor.h"
#include "collectors/procfs/root.h"

namespace cow::procfs {

// Bits of kpageflags (include/uapi/linux/kernel-page-flags.h, include/linux/kernel-page-flags.h).
inline constexpr uint64_t kFrameAnon = uint64_t{1} << 12;
inline constexpr uint64_t kFrameCompoundHead = uint64_t{1} << 15;
inline constexpr uint64_t kFrameCompoundTail = uint64_t{1} << 16;
inline constexpr uint64_t kFrameHugetlb = uint64_t{1} << 17;
inline constexpr uint64_t kFrameKsm = uint64_t{1} << 21;
inline constexpr uint64_t kFrameThp = uint64_t{1} << 22;
inline constexpr uint64_t kFrameZeroPage = uint64_t{1} << 24;
// The kernel's AnonExclusive mark of an anonymous page (5.19 and later). Fork clears it; a copy, a reuse or a fresh
// page sets it. From 6.12 on it is the mark of the folio's head, so it tells nothing about single pages of a large
// folio that is mapped by PTEs.
inline constexpr uint64_t kFrameAnonExclusive = uint64_t{1} << 34;

class KpageFile {
 public:
  static Result<KpageFile> OpenFlags(const Root& root);
  static Result<KpageFile> OpenCounts(const Root& root);

  // Stores the word of frames[i] in words[i]. `frames` must be sorted in ascending order; duplicates are allowed. Reads
  // close neighbours with one pread. Adds the number of preads to `reads`. A frame beyond the end of the file reads 0.
  Result<void> Read(std::span<const Pfn> frames, std::span<uint64_t> words, uint64_t& reads) const;

 private:
  explicit KpageFile(KernelFile file) : file_(std::move(file)) {}
  static Result<KpageFile> Open(const Root& root, std::string path);

  KernelFile file_;
};

}  // namespace cow::procfs
