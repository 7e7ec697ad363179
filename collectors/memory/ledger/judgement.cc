#include "collectors/memory/ledger/judgement.h"

namespace cow::memory {

Verdict Judgement::BreakWithHeirs(std::span<const MemberIndex> others) {
  Verdict verdict;
  verdict.kind = Verdict::Kind::kBreak;
  verdict.heirs_begin = static_cast<uint32_t>(heirs.size());
  heirs.insert(heirs.end(), others.begin(), others.end());
  verdict.heirs_end = static_cast<uint32_t>(heirs.size());
  return verdict;
}

void Judgement::AddBreak(MemberIndex slot, PageNumber page, bool seen, std::span<const MemberIndex> others) {
  Verdict verdict = BreakWithHeirs(others);
  verdict.seen = seen;
  verdict.slot = slot;
  verdict.page = page;
  verdicts.push_back(verdict);
}

void Judgement::AddBreaks(std::span<const PageBreak> breaks, std::span<const MemberIndex> holders) {
  if (breaks.empty()) return;
  Verdict verdict = BreakWithHeirs(holders);
  for (const PageBreak& each : breaks) {
    verdict.slot = each.slot;
    verdict.page = each.page;
    verdicts.push_back(verdict);
  }
}

void Judgement::AddBreakOfUnknownSide(MemberIndex slot, PageNumber page) {
  AddBreak(slot, page, true, {});
  verdicts.back().side_known = false;
}

void Judgement::AddUnshared(MemberIndex slot, PageNumber page, UnshareCause cause, uint64_t pages) {
  Verdict verdict;
  verdict.kind = Verdict::Kind::kUnshared;
  verdict.cause = cause;
  verdict.slot = slot;
  verdict.page = page;
  verdict.pages = pages;
  verdicts.push_back(verdict);
}

void Judgement::AddUnattributed(MemberIndex slot, PageNumber page) {
  Verdict verdict;
  verdict.kind = Verdict::Kind::kUnattributed;
  verdict.slot = slot;
  verdict.page = page;
  verdicts.push_back(verdict);
}

}  // namespace cow::memory
