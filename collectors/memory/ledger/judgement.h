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
  MemberIndex slot = Verdict::kNobody;          // the member that the verdict is about
  PageNumber page;                              // the first one
  uint64_t pages = 1;
  // Of kBreak: the holders of the original, a range in Judgement::holders. Members that broke the same page share one
  // range, so the range may include the breaker.
  uint32_t holders_begin = 0;
  uint32_t holders_end = 0;
};

// Verdicts on one window or on moved pages. The ledger appends; the caller clears.
struct Judgement {
  std::vector<Verdict> verdicts;
  std::vector<MemberIndex> holders;

  void Clear() {
    verdicts.clear();
    holders.clear();
  }

  // Each of `breaks` is a break of one page that all `others` shared, possibly at different addresses.
  void AddBreaks(std::span<const PageBreak> breaks, std::span<const MemberIndex> others) {
    if (breaks.empty()) return;
    const auto begin = static_cast<uint32_t>(holders.size());
    holders.insert(holders.end(), others.begin(), others.end());
    const auto end = static_cast<uint32_t>(holders.size());
    for (const auto& [slot, page] : breaks) {
      verdicts.push_back({.slot = slot, .page = page, .holders_begin = begin, .holders_end = end});
    }
  }
  void AddBreak(MemberIndex slot, PageNumber page, std::span<const MemberIndex> others) {
    const PageBreak only{slot, page};
    AddBreaks({&only, 1}, others);
  }
  // One of several members made the copy; `slot` stands for them.
  void AddBreakOfUnknownSide(MemberIndex slot, PageNumber page) {
    verdicts.push_back({.side_known = false, .slot = slot, .page = page});
  }
  // `page` is the first of `pages` pages, which need not be consecutive.
  void AddUnshared(MemberIndex slot, PageNumber page, UnshareCause cause, uint64_t pages = 1) {
    verdicts.push_back({.kind = Verdict::Kind::kUnshared, .cause = cause, .slot = slot, .page = page, .pages = pages});
  }
  void AddUnattributed(MemberIndex slot, PageNumber page) {
    verdicts.push_back({.kind = Verdict::Kind::kUnattributed, .slot = slot, .page = page});
  }

  std::span<const MemberIndex> HoldersOf(const Verdict& verdict) const {
    return std::span(holders).subspan(verdict.holders_begin, verdict.holders_end - verdict.holders_begin);
  }
};

}  // namespace cow::memory
