#include "collectors/writers/scan_look.h"

#include "collectors/memory/scan/report.h"

namespace cow::writers {

void AddBreaks(const memory::Family& family, const memory::Judgement& judgement, const procfs::PageGeometry& geometry,
               Look& look) {
  for (const memory::Verdict& verdict : judgement.verdicts) {
    if (verdict.kind != memory::Verdict::Kind::kBreak) continue;
    const memory::Member* member = family.FindSlot(verdict.slot);
    look.breaks.push_back({member == nullptr ? 0 : member->process->pid, verdict.side_known && member != nullptr,
                           verdict.page, verdict.pages, memory::KindOfVerdict(family, verdict, geometry)});
  }
}

void AddMembers(const memory::Family& family, Look& look) {
  for (const auto& member : family.members) {
    if (!member->access.unread && !member->reads.waits) look.members.push_back(member->process->pid);
  }
  if (family.root() != nullptr) look.root = family.root()->process->pid;
}

}  // namespace cow::writers
