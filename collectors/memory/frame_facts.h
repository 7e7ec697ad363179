// What /proc/kpageflags and /proc/kpagecount say of a handful of frames: the answers to the ledger's questions.
//
// Reading them costs three to four times a pagemap entry, so only frames whose verdict needs them are asked for,
// sorted, in one batch. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "collectors/procfs/kpage.h"

namespace cow::memory {

class FrameFacts {
 public:
  void Clear();
  // `marks_known`: this kernel shows AnonExclusive in bit 34 (5.19 and later). `frames` sorted ascending without
  // duplicates; `flags` and `counts` parallel to it, or empty where not readable.
  void Assign(std::vector<uint64_t> frames, std::vector<uint64_t> flags, std::vector<uint64_t> counts,
              bool marks_known = true);

  std::optional<uint64_t> Flags(uint64_t frame) const { return Find(frame, flags_); }
  std::optional<uint64_t> MapCount(uint64_t frame) const { return Find(frame, counts_); }

  bool IsKsm(uint64_t frame) const { return (Flags(frame).value_or(0) & procfs::kFrameKsm) != 0; }
  // The kernel's AnonExclusive mark; empty where unknown.
  std::optional<bool> IsExclusive(uint64_t frame) const;

 private:
  std::optional<uint64_t> Find(uint64_t frame, const std::vector<uint64_t>& words) const;

  std::vector<uint64_t> frames_;
  std::vector<uint64_t> flags_;
  std::vector<uint64_t> counts_;
  bool marks_known_ = true;
};

// What bit 34 of kpageflags is: nothing, AnonExclusive as each page has it (5.19 to 6.11), or as its folio's first page
// has it (6.12 and later). A huge page that is mapped as such is marked at its first page only.
enum class ExclusiveMarks { kNone, kOfThePage, kOfTheFolio };

// Both files, where they could be opened. Not thread-safe.
class FrameReader {
 public:
  // `pages_per_window`: no transparent huge page is larger.
  FrameReader(const procfs::Root& root, ExclusiveMarks marks, size_t pages_per_window);

  // The base zero page's frame, looked for by its flag in low memory; kNoFrame where it is not found. A few
  // milliseconds.
  uint64_t SearchZeroFrame();

  bool has_flags() const { return flags_.has_value(); }
  bool has_counts() const { return counts_.has_value(); }

  // Answers for `frames` (any order, duplicates allowed; left sorted and unique). Files that can't be read answer
  // nothing. A page of a huge page counts as marked where the first page is, whatever this kernel shows.
  void Read(std::vector<uint64_t>& frames, bool want_counts, FrameFacts& facts);

  uint64_t frames_read() const { return frames_read_; }
  uint64_t reads() const { return reads_; }

 private:
  void AddMarksOfFirstPages(std::span<const uint64_t> frames, std::span<uint64_t> flags);

  std::optional<procfs::KpageFile> flags_;
  std::optional<procfs::KpageFile> counts_;
  ExclusiveMarks marks_;
  size_t pages_per_window_;
  uint64_t frames_read_ = 0;
  uint64_t reads_ = 0;
};

}  // namespace cow::memory
