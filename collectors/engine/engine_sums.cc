#include "collectors/engine/engine_sums.h"

#include <algorithm>
#include <span>

namespace cow::collectors {
namespace {

void AddGauges(const FamilyState& state, const CollectorSet& collectors, std::span<const UnreadMember> unread_members,
               double fading_share, std::span<int64_t> sums) {
  std::vector<int64_t> gauges(collectors.gauges(), 0);
  state.sums.AddTo(gauges, fading_share);
  for (const InstalledCollector& each : collectors.all()) {
    if (unread_members.empty()) break;
    if (each.hooks != nullptr) each.hooks->AddUnread(unread_members, each.GaugesIn(std::span(gauges)));
  }
  for (size_t i = 0; i < gauges.size(); ++i) sums[i] += gauges[i];
}

// Adds the number of known pages and how many of them have a recent reading.
void AddCoverage(const FamilyState& state, const SumRules& rules, std::span<const UnreadMember> unread_members,
                 double fading_share, GroupTotals& totals) {
  const FamilyKnowledge& knowledge = state.knowledge;
  const auto add = [&](SystemTime read_at, uint64_t pages) {
    read_at = std::max(read_at, knowledge.verified_at);
    totals.known_pages += pages;
    if (read_at >= rules.horizon) totals.covered_pages += pages;
    if (!totals.oldest_read || read_at < *totals.oldest_read) totals.oldest_read = read_at;
  };
  uint64_t seen = 0;
  for (const auto& [number, cells] : state.sums.windows()) {
    add(cells.read_at, cells.present_pages);
    seen += cells.present_pages;
  }
  const uint64_t resident = state.processes.resident_pages;
  if (!knowledge.completed && state.pass == rules.pass && resident != 0) {
    totals.has_unseen = true;
    totals.known_pages += resident - std::min(resident, seen);
  }
  uint64_t unread = 0;
  for (const uint64_t count : knowledge.unread) unread += count;
  if (knowledge.completed && state.sums.windows().empty() && state.processes.members > unread) {
    add(knowledge.read_at, state.sums.alone_pages());
  }
  if (knowledge.completed) {
    // Unread memory is known but not covered.
    totals.known_pages += static_cast<uint64_t>(static_cast<double>(state.sums.fading_pages()) * fading_share);
    for (const UnreadMember& member : unread_members)
      totals.known_pages += static_cast<uint64_t>(member.ResidentPages());
  }
  totals.known_pages += knowledge.unread_pages;
}

}  // namespace

void AddFamily(const FamilyState& state, const SumRules& rules, GroupTotals& totals) {
  const std::vector<UnreadMember> unread_members = state.unread_members.List();
  const double fading_share = state.unread_members.FadingShare(state.sums.fading_pages());
  AddGauges(state, rules.collectors, unread_members, fading_share, totals.gauges);
  AddCoverage(state, rules, unread_members, fading_share, totals);
  // Counted since the last MergeIntoGroup.
  for (size_t i = 0; i < std::min(state.counters.size(), totals.counters.size()); ++i)
    totals.counters[i] += state.counters[i];
  totals.processes += state.processes.processes;
  totals.families += state.processes.members > 1 ? 1 : 0;
  totals.looked_at = totals.looked_at || state.knowledge.looked_at;
  for (size_t i = 0; i < memory::kModes; ++i) totals.modes.at(i) = totals.modes.at(i) || state.knowledge.modes.at(i);
  totals.scan_known = totals.scan_known && state.knowledge.scan_known;
  for (size_t i = 0; i < kUnreadReasons.size(); ++i) totals.unread.at(i) += state.knowledge.unread.at(i);
  const FamilyProcesses& processes = state.processes;
  if (processes.has_child && (!totals.oldest_child || processes.first_start < *totals.oldest_child)) {
    totals.oldest_child = processes.first_start;
  }
  if (processes.members == 0) return;
  const FamilyNaming& naming = state.naming;
  if (!totals.has_members) totals.cgroup_memory = naming.cgroup_memory;
  totals.has_members = true;
  totals.unit.Add(naming.cgroup_names.unit);
  totals.container_id.Add(naming.cgroup_names.container_id);
  totals.pod_uid.Add(naming.cgroup_names.pod_uid);
  totals.exe.Add(naming.exe);
  totals.cgroup_path.Add(naming.cgroup_path);
}

FamilySummary Summarize(const FamilyState& state, const SumRules& rules, size_t page_bytes) {
  FamilySummary summary{
      state.naming.root.first, state.naming.root_comm, state.naming.group_name, state.processes.processes, {}, {}, {}};
  const auto bytes = [page_bytes](int64_t pages) {
    return static_cast<uint64_t>(std::max<int64_t>(pages, 0)) * page_bytes;
  };
  GroupTotals totals;
  totals.gauges.assign(rules.collectors.gauges(), 0);
  AddFamily(state, rules, totals);
  const bool frames_hidden = totals.Has(memory::Mode::kNoFrames);
  if (!totals.Has(memory::Mode::kFull) && !totals.Has(memory::Mode::kNoKpage) && !frames_hidden) return summary;
  for (const InstalledCollector& each : rules.collectors.all()) {
    if (each.hooks == nullptr || each.stand_in || !each.IsPublished()) continue;
    const auto memory = each.hooks->DescribeFamily(each.GaugesIn(std::span<const int64_t>(totals.gauges)));
    if (!memory) continue;
    summary.shared_bytes = bytes(memory->shared_pages);
    summary.private_bytes = bytes(memory->private_pages);
    if (!frames_hidden) summary.exposure_bytes = bytes(memory->exposure_pages);
  }
  return summary;
}

}  // namespace cow::collectors
