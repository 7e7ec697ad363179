#include "collectors/memory/scan/break_account.h"

#include <utility>

#include "collectors/base/sort_unique.h"

namespace cow::memory {

void BreakAccount::Add(const Family& family, const Judgement& judgement, bool count_breaks) {
  for (std::span<const Verdict> rest = judgement.verdicts; !rest.empty();) {
    // Breaks of one page have the same holders of the original.
    const auto verdicts =
        TakeRun(rest, [](const Verdict& each) { return std::pair(each.holders_begin, each.holders_end); });
    AddOfOnePage(family, verdicts, judgement.HoldersOf(verdicts.front()), count_breaks);
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
