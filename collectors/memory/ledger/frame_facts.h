// Facts about page frames from /proc/kpageflags and /proc/kpagecount: the answers to the ledger's questions.
//
// Reading them costs three to four times as much as a pagemap entry. So ask only about frames that a verdict needs,
// sorted, in one batch. A fact that is unknown is empty. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "collectors/base/page_numbers.h"

namespace cow::memory {

// The meaning of bit 34 of kpageflags: none; AnonExclusive for small folios, unknown for large ones; AnonExclusive of
// each page (5.19 to 6.11); AnonExclusive of the folio's first page (6.12 and later). A PMD-mapped huge page has the
// mark on its first page only.
enum class ExclusiveMarks { kNone, kOfSmallFolios, kOfThePage, kOfTheFolio };

// Which words of both files are reliable (kernel_probe.h finds out).
struct FrameWords {
  ExclusiveMarks marks = ExclusiveMarks::kOfThePage;
  bool merged_flag = true;  // bit 21 of kpageflags is set on pages merged by KSM and on no others
  bool page_counts = true;  // kpagecount counts each page of a large folio
};

class FrameFacts {
 public:
  void Clear();
  // `frames` is sorted and unique. `flags` and `counts` are parallel to it, or empty if unreadable. `may_be_merged`:
  // KSM may have merged some frames; used if the flag is unreliable.
  void Assign(std::vector<Pfn> frames, std::vector<uint64_t> flags, std::vector<uint64_t> counts,
              const FrameWords& words = {}, bool may_be_merged = false);

  std::optional<uint64_t> Flags(Pfn frame) const { return Find(frame, flags_); }
  // The page's mapcount; empty if unknown, also if the kernel counts only the whole large folio.
  std::optional<uint64_t> MapCount(Pfn frame) const;
  // True if the kernel counts the whole folio: MapCount is empty and bit 56 describes the folio.
  bool IsCountedAsFolio(Pfn frame) const;

  // Adds frames above the present ones; other parameters as for Assign. If a file gave no answer once, all its answers
  // are dropped.
  void Append(std::span<const Pfn> frames, std::span<const uint64_t> flags, std::span<const uint64_t> counts,
              const FrameWords& words, bool may_be_merged);

  // True if KSM merged the page. If the flag is unreliable and frames may be merged, true unless merging can be ruled
  // out.
  bool IsKsm(Pfn frame) const;
  // True if IsKsm is certain.
  bool merged_known() const { return words_.merged_flag; }
  // True for a page of a large folio that is not hugetlb. Copy-on-write never makes one. Empty if unknown.
  std::optional<bool> IsOfLargeFolio(Pfn frame) const;
  // `middle` is half a window above an aligned frame. True if both are in one huge page that is not hugetlb: folios are
  // aligned to their size, so a smaller folio would begin at `middle`. False if unknown.
  bool IsOfHugePage(Pfn middle) const;
  // The kernel's AnonExclusive mark; empty if unknown.
  std::optional<bool> IsExclusive(Pfn frame) const;

 private:
  std::optional<uint64_t> Find(Pfn frame, const std::vector<uint64_t>& words) const;
  static void Extend(std::vector<uint64_t>& words, std::span<const uint64_t> more, size_t known);

  std::vector<Pfn> frames_;
  std::vector<uint64_t> flags_;
  std::vector<uint64_t> counts_;
  FrameWords words_;
  bool may_be_merged_ = false;
};

}  // namespace cow::memory
