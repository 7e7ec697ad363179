// What was decided about pages: who broke one, whose became private because the others left, which can't be told.
//
// Pure values. Units: pages and page numbers (address / page size).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "collectors/memory/ledger/page.h"

namespace cow::memory {

enum class UnshareCause { kExit, kUnmap, kCollapse, kUnknown };

// A page that a member copied.
struct PageBreak {
  Slot slot = 0;
  uint64_t page = 0;
};

struct Verdict {
  enum class Kind { kBreak, kUnshared, kUnattributed };
  static constexpr Slot kNobody = ~Slot{0};

  Kind kind = Kind::kBreak;
  UnshareCause cause = UnshareCause::kUnknown;  // of kUnshared
  bool side_known = true;                       // of kBreak: false where it can't be told who copied
  bool seen = true;              // of kBreak: false when inferred at a first look, from the kernel's marks
  Slot slot = Verdict::kNobody;  // who broke it, whose page became private, whose is unattributed
  uint64_t page = 0;             // number of the (first) virtual page
  uint64_t pages = 1;
  // Of kBreak: who held the original, a range of Judgement::heirs. Several who broke one page have one range, so that
  // the one who broke it may be in it too.
  uint32_t heirs_begin = 0;
  uint32_t heirs_end = 0;
};

// What was decided about one window or about pages that moved. Appended to; the caller clears it.
struct Judgement {
  std::vector<Verdict> verdicts;
  std::vector<Slot> heirs;

  void Clear() {
    verdicts.clear();
    heirs.clear();
  }

  void AddBreak(Slot slot, uint64_t page, bool seen, std::span<const Slot> others);
  // Each of these was seen to break one page, which all `holders` had, maybe at different addresses.
  void AddBreaks(std::span<const PageBreak> breaks, std::span<const Slot> holders);
  // One of several copied, `slot` stands for them.
  void AddBreakOfUnknownSide(Slot slot, uint64_t page);
  // `page` is the first one of `pages`, which need not follow each other.
  void AddUnshared(Slot slot, uint64_t page, UnshareCause cause, uint64_t pages = 1);
  void AddUnattributed(Slot slot, uint64_t page);

 private:
  Verdict BreakWithHeirs(std::span<const Slot> others);
};

}  // namespace cow::memory
