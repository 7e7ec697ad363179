#include "collectors/explain/family_history.h"

#include "collectors/memory/ledger/frame_facts.h"
#include "collectors/memory/ledger/judgement.h"

namespace cow::explain {

FamilyMember FindMember(const memory::Lineage& families, pid_t pid) {
  for (const auto& family : families.families()) {
    for (const auto& member : family->members) {
      if (member->process->pid == pid) return {family.get(), member.get()};
    }
    for (const memory::Alias& alias : family->aliases) {
      if (alias.process->pid == pid) return {family.get(), family->FindSlot(alias.slot)};
    }
  }
  return {nullptr, nullptr};
}

// Other families are never read, so their ended members have no pages to judge.
void FamilyHistory::Settle() {
  for (const auto& family : families_.families()) {
    if (!family->ended.empty() && family->ledger.empty()) {
      memory::Judgement judgement;
      memory::MovedSharing moved;
      const memory::FrameFacts unknown;
      family->ledger.FinishPass(unknown, judgement, moved).MakeAll();
    }
    families_.Settle(*family);
  }
}

}  // namespace cow::explain
