// The verdicts of the ledger on the pages of one window or on moved pages: breaks, pages left private, unattributed
// pages.
//
// Pure values. Units: pages.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "collectors/base/page_numbers.h"
#include "collectors/memory/ledger/member_index.h"

namespace cow::memory {

enum class UnshareCause { kExit, kUnmap, kCollapse, kUnknown };

// A page that a member copied.
struct PageBreak {
  MemberIndex slot;
  PageNumber page;
};

struct Verdict {
  enum class Kind { kBreak, kUnshared, kUnattributed };
  static constexpr MemberIndex kNobody = MemberIndex::None();

  Kind kind = Kind::kBreak;
  UnshareCause cause = UnshareCause::kUnknown;  // of kUnshared
  bool side_known = true;                       // of kBreak: false if the copier is unknown
  bool seen = true;                             // of kBreak: false if inferred at a first look from the kernel's marks
  MemberIndex slot = Verdict::kNobody;          // the member that the verdict is about
  PageNumber page;                              // the first one
  uint64_t pages = 1;
  // Of kBreak: the holders of the original, a range in Judgement::heirs. Members that broke the same page share one
  // range, so the range may include the breaker.
  uint32_t heirs_begin = 0;
  uint32_t heirs_end = 0;
};

// Verdicts on one window or on moved pages. The ledger appends; the caller clears.
struct Judgement {
  std::vector<Verdict> verdicts;
  std::vector<MemberIndex> heirs;

  void Clear() {
    verdicts.clear();
    heirs.clear();
  }

  void AddBreak(MemberIndex slot, PageNumber page, bool seen, std::span<const MemberIndex> others);
  // Each of `breaks` is an observed break of one page that all `holders` shared, possibly at different addresses.
  void AddBreaks(std::span<const PageBreak> breaks, std::span<const MemberIndex> holders);
  // One of several members made the copy; `slot` stands for them.
  void AddBreakOfUnknownSide(MemberIndex slot, PageNumber page);
  // `page` is the first of `pages` pages, which need not be consecutive.
  void AddUnshared(MemberIndex slot, PageNumber page, UnshareCause cause, uint64_t pages = 1);
  void AddUnattributed(MemberIndex slot, PageNumber page);

 private:
  Verdict BreakWithHeirs(std::span<const MemberIndex> others);
};

}  // namespace cow::memory
