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

namespace cow::memory {

// What bit 34 of kpageflags is: nothing; AnonExclusive of a small folio's page, and unknown of a large one's;
// AnonExclusive as each page has it (5.19 to 6.11); or as its folio's first page has it (6.12 and later). A huge page
// that is mapped as such is marked at its first page only.
enum class ExclusiveMarks { kNone, kOfSmallFolios, kOfThePage, kOfTheFolio };

// How far the words of both files can be relied on (kernel_probe.h finds out).
struct FrameWords {
  ExclusiveMarks marks = ExclusiveMarks::kOfThePage;
  bool merged_flag = true;  // bit 21 of kpageflags is set on pages that KSM merged, and on no others
  bool page_counts = true;  // kpagecount counts a large folio's pages one by one
};

class FrameFacts {
 public:
  void Clear();
  // `frames` sorted ascending without duplicates; `flags` and `counts` parallel to it, or empty where not readable.
  // `may_be_merged`: some of the frames may be KSM's; matters where the flag can't tell.
  void Assign(std::vector<uint64_t> frames, std::vector<uint64_t> flags, std::vector<uint64_t> counts,
              const FrameWords& words = {}, bool may_be_merged = false);

  std::optional<uint64_t> Flags(uint64_t frame) const { return Find(frame, flags_); }
  // How often the page is mapped; empty where unknown, as where only the whole large folio's mappings are counted.
  std::optional<uint64_t> MapCount(uint64_t frame) const;
  // The count is the whole folio's: MapCount is empty, and bit 56 of the page's entries says no more.
  bool IsCountedAsFolio(uint64_t frame) const;

  // Further frames, above those that are there; the rest as for Assign. A file that answers nothing once answers
  // nothing at all.
  void Append(std::span<const uint64_t> frames, std::span<const uint64_t> flags, std::span<const uint64_t> counts,
              const FrameWords& words, bool may_be_merged);

  // Merged by KSM; where the flag can't tell and frames may be KSM's, also a page of which it can't be ruled out.
  bool IsKsm(uint64_t frame) const;
  // IsKsm is the kernel's word, and not that it can't be ruled out.
  bool merged_known() const { return words_.merged_flag; }
  // Part of a large folio, other than hugetlb's; empty where unknown. Copy-on-write makes no page of one.
  std::optional<bool> IsOfLargeFolio(uint64_t frame) const;
  // `middle`: half a window behind a frame that is aligned to windows. Both are of one huge page, other than hugetlb's:
  // folios are aligned to their size, so that a smaller one would begin at `middle`. False where unknown.
  bool IsOfHugePage(uint64_t middle) const;
  // The kernel's AnonExclusive mark; empty where unknown.
  std::optional<bool> IsExclusive(uint64_t frame) const;

 private:
  std::optional<uint64_t> Find(uint64_t frame, const std::vector<uint64_t>& words) const;
  static void Extend(std::vector<uint64_t>& words, std::span<const uint64_t> more, size_t known);

  std::vector<uint64_t> frames_;
  std::vector<uint64_t> flags_;
  std::vector<uint64_t> counts_;
  FrameWords words_;
  bool may_be_merged_ = false;
};

}  // namespace cow::memory
