#include "collectors/memory/scan/break_account.h"

namespace cow::memory {

void BreakAccount::Add(const Family& family, const Judgement& judgement, bool count_breaks) {
  const std::span<const Verdict> verdicts(judgement.verdicts);
  for (size_t begin = 0; begin < verdicts.size();) {
    // Breaks of one page have the same heirs.
    const uint32_t first = verdicts[begin].heirs_begin;
    const uint32_t last = verdicts[begin].heirs_end;
    size_t end = begin;
    while (end < verdicts.size() && verdicts[end].heirs_begin == first && verdicts[end].heirs_end == last) ++end;
    AddOfOnePage(family, verdicts.subspan(begin, end - begin), std::span(judgement.heirs).subspan(first, last - first),
                 count_breaks);
    begin = end;
  }
}

void BreakAccount::AddOfOnePage(const Family& family, std::span<const Verdict> verdicts,
                                std::span<const MemberIndex> heirs, bool count_breaks) {
  for (const Verdict& verdict : verdicts) {
    if (verdict.kind != Verdict::Kind::kBreak || !verdict.side_known) continue;
    Member* breaker = family.FindSlot(verdict.slot);
    if (breaker == nullptr) continue;
    if (count_breaks) breaker->life.broken_pages += verdict.pages;
    if (breaker->life.forked) breaker->life.family_break_pages += verdict.pages;
    if (breaker->slot.number() >= broken_by_.size()) broken_by_.resize(breaker->slot.number() + 1, 0);
    broken_by_[breaker->slot.number()] += verdict.pages;
  }
  for (const MemberIndex slot : heirs) {
    Member* heir = family.FindSlot(slot);
    if (heir != nullptr && heir->parent.number() < broken_by_.size())
      heir->life.family_break_pages += broken_by_[heir->parent.number()];
  }
  for (const Verdict& verdict : verdicts) {
    if (verdict.slot.number() < broken_by_.size()) broken_by_[verdict.slot.number()] = 0;
  }
}

}  // namespace cow::memory
