#include "collectors/memory/scan/break_account.h"

namespace cow::memory {

void BreakAccount::Add(const Family& family, const Judgement& judgement, bool count_breaks) {
  const std::span<const Verdict> verdicts(judgement.verdicts);
  for (size_t begin = 0; begin < verdicts.size();) {
    // Breaks of one page have the same holders of the original.
    const std::span<const MemberIndex> holders = judgement.HoldersOf(verdicts[begin]);
    size_t end = begin;
    while (end < verdicts.size() && verdicts[end].holders_begin == verdicts[begin].holders_begin &&
           verdicts[end].holders_end == verdicts[begin].holders_end) {
      ++end;
    }
    AddOfOnePage(family, verdicts.subspan(begin, end - begin), holders, count_breaks);
    begin = end;
  }
}

void BreakAccount::AddOfOnePage(const Family& family, std::span<const Verdict> verdicts,
                                std::span<const MemberIndex> holders, bool count_breaks) {
  for (const Verdict& verdict : verdicts) {
    if (verdict.kind != Verdict::Kind::kBreak || !verdict.side_known) continue;
    Member* breaker = family.FindSlot(verdict.slot);
    if (breaker == nullptr) continue;
    if (count_breaks) breaker->life.broken_pages += verdict.pages;
    if (breaker->life.forked) breaker->life.family_break_pages += verdict.pages;
    if (breaker->slot.number() >= broken_by_.size()) broken_by_.resize(breaker->slot.number() + 1, 0);
    broken_by_[breaker->slot.number()] += verdict.pages;
  }
  for (const MemberIndex slot : holders) {
    Member* holder = family.FindSlot(slot);
    if (holder != nullptr && holder->parent.number() < broken_by_.size())
      holder->life.family_break_pages += broken_by_[holder->parent.number()];
  }
  for (const Verdict& verdict : verdicts) {
    if (verdict.slot.number() < broken_by_.size()) broken_by_[verdict.slot.number()] = 0;
  }
}

}  // namespace cow::memory
