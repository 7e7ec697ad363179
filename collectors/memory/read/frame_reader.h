// Reads /proc/kpageflags and /proc/kpagecount for a handful of frames, where both could be opened.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "collectors/memory/ledger/frame_facts.h"
#include "collectors/procfs/kpage.h"
#include "collectors/procfs/root.h"

namespace cow::memory {

// Not thread-safe.
class FrameReader {
 public:
  // `pages_per_window`: no transparent huge page is larger.
  FrameReader(const procfs::Root& root, const FrameWords& words, size_t pages_per_window);

  // The base zero page's frame, looked for by its flag in the kernel's image and then in low memory; kNoFrame where it
  // is not found. A few milliseconds.
  uint64_t SearchZeroFrame(const procfs::Root& root, size_t page_bytes);

  // Of whom the next frames are: some process of theirs has pages that KSM merged, or that can't be ruled out.
  void SetMayBeMerged(bool may_be_merged) { may_be_merged_ = may_be_merged; }

  bool has_flags() const { return flags_.has_value(); }
  bool has_counts() const { return counts_.has_value(); }

  // Answers for `frames` (any order, duplicates allowed; left sorted and unique). Files that can't be read answer
  // nothing. A page of a huge page counts as marked where the first page is, whatever this kernel shows.
  void Read(std::vector<uint64_t>& frames, bool want_counts, FrameFacts& facts);
  // Answers for more frames, which are sorted, and lie above all that `facts` answers for. With their counts.
  void ReadMore(std::span<const uint64_t> frames, FrameFacts& facts);

  uint64_t frames_read() const { return frames_read_; }
  uint64_t reads() const { return reads_; }

 private:
  uint64_t SearchZeroFrameIn(uint64_t first, uint64_t end) const;
  std::vector<uint64_t> ReadFlags(std::span<const uint64_t> frames);
  std::vector<uint64_t> ReadCounts(std::span<const uint64_t> frames);
  void AddMarksOfFirstPages(std::span<const uint64_t> frames, std::span<uint64_t> flags);

  std::optional<procfs::KpageFile> flags_;
  std::optional<procfs::KpageFile> counts_;
  FrameWords words_;
  size_t pages_per_window_;
  bool may_be_merged_ = false;
  uint64_t frames_read_ = 0;
  uint64_t reads_ = 0;
};

}  // namespace cow::memory
