#include "collectors/memory/scan/due.h"

#include <algorithm>
#include <optional>

#include "collectors/base/half_to_all.h"
#include "collectors/procfs/ksm.h"

namespace cow::memory {

namespace {

// True if the host's counters show changes that no process' signals show.
bool HostChanged(const std::optional<procfs::Vmstat>& before, const std::optional<procfs::Vmstat>& now) {
  return !before || !now || before->swapped_in_pages != now->swapped_in_pages ||
         before->swapped_out_pages != now->swapped_out_pages || before->huge_collapses != now->huge_collapses;
}

}  // namespace

bool MustWalk(const Host& host, const Family& family) {
  return family.members.size() > 1 || !family.ended.empty() || !family.ledger.empty() ||
         !host.capabilities.sees_every_process || !host.capabilities.pagemap_scan ||
         (!family.members.empty() && family.members.front()->reads.shares_unseen);
}

bool MayHaveMerged(const Host& host, const Process& process) {
  if (!host.ksm_has_merged) return false;
  const auto pages = procfs::ReadKsmMergingPages(host.root, process.memory);
  if (pages) return *pages > 0;
  return host.IsMergingUntold() && pages.error().kind != ErrorKind::kGone;
}

bool UsesKsm(const Host& host, const Family& family) {
  if (!host.ksm_has_merged || !MustWalk(host, family)) return false;
  if (family.used_ksm && host.IsMergingUntold()) return true;
  return std::any_of(family.members.begin(), family.members.end(),
                     [&host](const auto& member) { return MayHaveMerged(host, *member->process); });
}

bool IsDue(const Host& host, const Family& family, std::chrono::milliseconds full_every) {
  if (full_every.count() == 0 || family.membership_changed || HostChanged(family.host, host.vmstat)) return true;
  if (family.must_read_all) return true;
  // The kernel counts a fault for the process that caused it, so a member's signals miss writes of its aliases.
  if (!family.aliases.empty()) return true;
  const SteadyTime now = std::chrono::steady_clock::now();
  return std::any_of(family.members.begin(), family.members.end(),
                     [now](const auto& member) { return IsDue(*member, now); }) ||
         UsesKsm(host, family);
}

bool AllAreDue(const Host& host, const Family& family, std::chrono::milliseconds full_every) {
  // A single process is not compared, and reading it is cheap or the only way to know its memory.
  if (full_every.count() == 0 || !host.capabilities.frames || family.members.size() < 2) return true;
  if (HostChanged(family.host, host.vmstat) || family.ledger.has_unmatched() || family.must_read_all ||
      !family.aliases.empty()) {
    return true;
  }
  // Whether a page in swap is unresolved depends on the relatives' pages at its address.
  const bool swapped = std::any_of(family.members.begin(), family.members.end(), [](const auto& member) {
    return member->process->status.swap_bytes.value_or(0) != 0;
  });
  if (swapped) return true;
  // The kernel may reuse a migrated frame for another page. Comparing its holders shows that, but a newcomer that
  // shares the frame could hide it.
  const bool has_newcomer = std::any_of(family.members.begin(), family.members.end(),
                                        [](const auto& member) { return member->reads.first_look; });
  if (has_newcomer && family.host->migrated_pages != host.vmstat->migrated_pages) return true;
  return UsesKsm(host, family);
}

bool IsDue(const Member& member, SteadyTime now) {
  return member.access.unread || member.process->unread || member.reads.first_look || !member.reads.signals ||
         !member.reads.full_due || now >= *member.reads.full_due ||
         *member.reads.signals != ChangeSignals::Of(*member.process);
}

bool RecordsCanStandFor(const Member& member) { return member.access.pagemap && member.access.mappings; }

SteadyTime NextFullRead(const Family& family, const Member& member, std::chrono::milliseconds full_every,
                        SteadyTime now) {
  return now + HalfToAll(full_every, family.id * 5 + member.slot.number() * 7);
}

}  // namespace cow::memory
