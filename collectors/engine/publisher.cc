#include "collectors/engine/publisher.h"

#include <prometheus/metric_family.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <map>
#include <span>
#include <string>
#include <utility>

#include "collectors/base/result.h"
#include "collectors/engine/engine_metrics.h"
#include "collectors/engine/mode_notices.h"

namespace cow::collectors {
namespace {

double Seconds(SystemTime time) { return std::chrono::duration<double>(time.time_since_epoch()).count(); }

// The sums of one group over its families.
struct GroupState {
  std::vector<int64_t> gauges;
  const Group* group = nullptr;
  size_t processes = 0;
  size_t families = 0;
  std::array<bool, memory::kModes> modes{};
  bool scan_known = true;
  std::array<uint64_t, kUnreadReasons.size()> unread{};
  uint64_t covered_pages = 0;
  uint64_t known_pages = 0;
  std::optional<SystemTime> oldest_read;
  std::optional<SystemTime> oldest_child;
  std::vector<const FamilyState*> members;
  bool has_unseen = false;  // a family that no pass was completed over

  bool Has(memory::Mode mode) const { return modes.at(static_cast<size_t>(mode)); }
  bool HasUnreadable() const { return Has(memory::Mode::kNoPagemap) || Has(memory::Mode::kNone); }
  // Some page table was, or there is none to be read. Of what awaits its first look nothing is known.
  bool Readable() const {
    if (has_unseen && !group->looked_at) return false;
    return !HasUnreadable() || Has(memory::Mode::kFull) || Has(memory::Mode::kNoKpage) || Has(memory::Mode::kNoFrames);
  }
};

class Publisher {
 public:
  explicit Publisher(const EngineView& engine) : engine_(engine) {}

  std::vector<CollectedFamilies> Collect() const;
  std::vector<FamilySummary> Families() const;

 private:
  std::map<std::string, GroupState> SumGroups() const;
  void AddGauges(const FamilyState& state, std::span<const UnreadMember> unread_members, double fading_share,
                 std::span<int64_t> sums) const;
  void AddFamily(const FamilyState& state, SystemTime horizon, GroupState& group) const;
  void PublishGroups(const std::map<std::string, GroupState>& groups, MetricWriter& writer) const;
  void PublishKnowledge(const std::map<std::string, GroupState>& groups, MetricWriter& writer) const;
  static void PublishInfo(const std::map<std::string, GroupState>& groups, MetricWriter& writer);
  void PublishSelf(MetricWriter& writer) const;

  const EngineView& engine_;
};

void Publisher::AddFamily(const FamilyState& state, SystemTime horizon, GroupState& group) const {
  const std::vector<UnreadMember> unread_members = state.unread_members.List();
  const double fading_share = state.unread_members.FadingShare(state.sums.fading_pages());
  AddGauges(state, unread_members, fading_share, group.gauges);
  const auto rest = [&](SystemTime read_at, uint64_t pages) {
    read_at = std::max(read_at, state.verified_at);
    group.known_pages += pages;
    if (read_at >= horizon) group.covered_pages += pages;
    if (!group.oldest_read || read_at < *group.oldest_read) group.oldest_read = read_at;
  };
  uint64_t seen = 0;
  for (const auto& [number, cells] : state.sums.windows()) {
    rest(cells.read_at, cells.present_pages);
    seen += cells.present_pages;
  }
  if (!state.completed && state.pass == engine_.pass && state.resident_pages != 0) {
    group.has_unseen = true;
    group.known_pages += state.resident_pages - std::min(state.resident_pages, seen);
  }
  uint64_t unread = 0;
  for (const uint64_t count : state.unread) unread += count;
  if (state.completed && state.sums.windows().empty() && state.members > unread) {
    rest(state.read_at, state.sums.alone_pages());
  }
  if (state.completed) {
    // What is not read yet is known of, and not covered.
    group.known_pages += static_cast<uint64_t>(static_cast<double>(state.sums.fading_pages()) * fading_share);
    for (const UnreadMember& member : unread_members)
      group.known_pages += static_cast<uint64_t>(member.ResidentPages());
  }
  group.known_pages += state.unread_pages;
  group.processes += state.processes;
  group.families += state.members > 1 ? 1 : 0;
  for (size_t i = 0; i < memory::kModes; ++i) group.modes.at(i) = group.modes.at(i) || state.modes.at(i);
  group.scan_known = group.scan_known && state.scan_known;
  for (size_t i = 0; i < kUnreadReasons.size(); ++i) group.unread.at(i) += state.unread.at(i);
  if (state.has_child && (!group.oldest_child || state.first_start < *group.oldest_child)) {
    group.oldest_child = state.first_start;
  }
  if (state.members != 0) group.members.push_back(&state);
}

void Publisher::AddGauges(const FamilyState& state, std::span<const UnreadMember> unread_members, double fading_share,
                          std::span<int64_t> sums) const {
  std::vector<int64_t> gauges(engine_.gauges, 0);
  state.sums.AddTo(gauges, fading_share);
  for (const InstalledCollector& each : engine_.collectors) {
    if (unread_members.empty()) break;
    each.collector->AddUnread(unread_members, std::span(gauges).subspan(each.first_gauge, each.collector->gauges()));
  }
  for (size_t i = 0; i < gauges.size(); ++i) sums[i] += gauges[i];
}

std::map<std::string, GroupState> Publisher::SumGroups() const {
  std::map<std::string, GroupState> sums;
  for (const auto& [name, group] : engine_.groups.all()) {
    if (!group.exported) continue;
    GroupState& state = sums[name];
    state.group = &group;
    state.scan_known = engine_.scanner.capabilities().pagemap_scan;
    state.gauges.assign(engine_.gauges, 0);
  }
  const SystemTime horizon = std::min(engine_.pass_begin, std::chrono::system_clock::now() - engine_.options.interval);
  for (const auto& [id, state] : engine_.states) {
    if (state.left_out) continue;
    auto found = sums.find(state.group_name);
    if (found == sums.end()) {
      const auto group = engine_.groups.all().find(state.group_name);
      if (group != engine_.groups.all().end() && group->second.awaits_second_pass) continue;
      found = sums.find(Groups::kOverflow);
    }
    if (found != sums.end()) AddFamily(state, horizon, found->second);
  }
  const auto other = sums.find(Groups::kOverflow);
  if (other != sums.end()) {
    other->second.unread.at(kBudget) += engine_.table.over_limit();
    // One that ends while it is listed is nothing unusual; of the others nothing is known, not even a name.
    for (const auto& [kind, count] : engine_.table.unreadable()) {
      if (kind != ErrorKind::kGone) other->second.unread.at(ReasonOf(kind)) += count;
    }
  }
  return sums;
}

void Publisher::PublishGroups(const std::map<std::string, GroupState>& groups, MetricWriter& writer) const {
  writer.Begin(kProcesses);
  for (const auto& [name, state] : groups) writer.AddFor(name, {}, static_cast<double>(state.processes));
  writer.Begin(kFamilies);
  for (const auto& [name, state] : groups) {
    if (state.Readable()) writer.AddFor(name, {}, static_cast<double>(state.families));
  }
  writer.Begin(kOldestChildStart);
  for (const auto& [name, state] : groups) {
    if (state.oldest_child) writer.AddFor(name, {}, Seconds(*state.oldest_child));
  }
  // Of the roots' memory cgroup, where all roots of the group are in the same and it has a limit.
  const auto cgroup_of = [](const GroupState& state) -> const procfs::CgroupMemory* {
    const FamilyState* first = nullptr;
    for (const FamilyState* family : state.members) {
      if (first != nullptr && family->cgroup_path != first->cgroup_path) return nullptr;
      first = family;
    }
    const bool limited = first != nullptr && first->cgroup_memory && first->cgroup_memory->limit_bytes;
    return limited ? &*first->cgroup_memory : nullptr;
  };
  writer.Begin(kCgroupMemoryLimit);
  for (const auto& [name, state] : groups) {
    if (const auto* cgroup = cgroup_of(state)) writer.AddFor(name, {}, static_cast<double>(*cgroup->limit_bytes));
  }
  writer.Begin(kCgroupMemoryUsage);
  for (const auto& [name, state] : groups) {
    if (const auto* cgroup = cgroup_of(state)) writer.AddFor(name, {}, static_cast<double>(cgroup->usage_bytes));
  }
}

void Publisher::PublishInfo(const std::map<std::string, GroupState>& groups, MetricWriter& writer) {
  writer.Begin(kGroupInfo);
  for (const auto& [name, state] : groups) {
    const auto common = [&members = state.members](auto&& field) {
      std::string value;
      for (const FamilyState* family : members) {
        if (family != members.front() && field(*family) != value) return std::string();
        value = field(*family);
      }
      return value;
    };
    writer.AddFor(name,
                  {common([](const FamilyState& f) { return f.names.unit; }),
                   common([](const FamilyState& f) { return f.names.container_id; }),
                   common([](const FamilyState& f) { return f.names.pod_uid; }),
                   common([](const FamilyState& f) { return f.exe; })},
                  1);
  }
}

void Publisher::PublishKnowledge(const std::map<std::string, GroupState>& groups, MetricWriter& writer) const {
  writer.Begin(kGroupMode);
  for (const auto& [name, state] : groups) {
    for (size_t mode = 0; mode < memory::kModes; ++mode) {
      if (state.modes.at(mode)) writer.AddFor(name, {kModeNames.at(mode)}, 1);
    }
  }
  writer.Begin(kScanCoverage);
  for (const auto& [name, state] : groups) {
    if (state.members.empty() && !state.has_unseen) continue;
    const auto known = static_cast<double>(state.known_pages);
    writer.AddFor(name, {}, known == 0 ? 1 : static_cast<double>(state.covered_pages) / known);
  }
  writer.Begin(kScanTimestamp);
  for (const auto& [name, state] : groups) {
    if (state.oldest_read) writer.AddFor(name, {}, Seconds(*state.oldest_read));
  }
  writer.Begin(kUnreadProcesses);
  for (const auto& [name, state] : groups) {
    for (size_t reason = 0; reason < kUnreadReasons.size(); ++reason) {
      writer.AddFor(name, {kUnreadReasons.at(reason)}, static_cast<double>(state.unread.at(reason)));
    }
  }
}

void Publisher::PublishSelf(MetricWriter& writer) const {
  memory::ScanCounters counters;
  for (const memory::ScanCounters& of_thread : engine_.scan_counters) counters.Add(of_thread);
  size_t ledger_bytes = 0;
  size_t looks_bytes = 0;
  for (const auto& [id, state] : engine_.states) {
    ledger_bytes += state.pass == engine_.pass ? state.ledger_bytes : 0;
    looks_bytes += state.pass == engine_.pass ? state.looks_bytes : 0;
  }
  const memory::Capabilities& can = engine_.scanner.capabilities();
  writer.Begin(kHostSaved);
  if (engine_.host_saved) writer.Add({}, *engine_.host_saved);
  writer.Begin(kScanPages);
  writer.Add({}, static_cast<double>(counters.pagemap_pages));
  writer.Begin(kScanFrameWords);
  writer.Add({}, static_cast<double>(counters.frame_words));
  writer.Begin(kScanCalls);
  writer.Add({"pagemap"}, static_cast<double>(counters.pagemap_reads));
  writer.Add({"pagemap_scan"}, static_cast<double>(counters.scan_calls));
  writer.Add({"kpage"}, static_cast<double>(counters.frame_reads));
  writer.Begin(kScanRests);
  writer.Add({}, static_cast<double>(counters.rests));
  writer.Begin(kScanWindowsReadAgain);
  writer.Add({}, static_cast<double>(counters.windows_read_again));
  writer.Begin(kScanUnchangedWindows);
  writer.Add({}, static_cast<double>(counters.windows_unchanged));
  writer.Begin(kScanUnstablePages);
  writer.Add({}, static_cast<double>(counters.unstable_pages));
  writer.Begin(kScanPasses);
  writer.Add({"full"}, static_cast<double>(engine_.full_passes));
  writer.Add({"incremental"}, static_cast<double>(engine_.incremental_passes));
  writer.Begin(kScanSkippedProcesses);
  writer.Add({}, static_cast<double>(engine_.skipped_processes));
  writer.Begin(kForkEventsOverruns);
  if (engine_.fork_watch && engine_.fork_watch->has_events()) {
    writer.Add({}, static_cast<double>(engine_.fork_watch->overruns()));
  }
  writer.Begin(kLedgerBytes);
  writer.Add({}, static_cast<double>(ledger_bytes));
  writer.Begin(kScanLooksBytes);
  writer.Add({}, static_cast<double>(looks_bytes));
  writer.Begin(kLedgerReducedWindows);
  writer.Add({}, static_cast<double>(engine_.budget.reduced_windows));
  writer.Begin(kMemoryBytes);
  for (size_t purpose = 0; purpose < memory::kMemoryPurposes.size(); ++purpose) {
    writer.Add({memory::kMemoryPurposes.at(purpose)},
               static_cast<double>(engine_.budget.UsedFor(static_cast<memory::MemoryPurpose>(purpose))));
  }
  writer.Begin(kGroupsOverflowed);
  writer.Add({}, static_cast<double>(engine_.groups.overflowed()));
  writer.Begin(kGroupKeysUnread);
  for (const auto& [key, count] : engine_.unread_keys) writer.Add({key}, static_cast<double>(count));
  writer.Begin(kCollectorDuration);
  for (const InstalledCollector& each : engine_.collectors) {
    if (each.stand_in) continue;
    writer.Add({each.name}, std::chrono::duration<double>(each.last_spent).count());
  }
  writer.Begin(kCollectorSuccess);
  for (const InstalledCollector& each : engine_.collectors) {
    if (!each.stand_in) writer.Add({each.name}, each.last_failed ? 0 : 1);
  }
  writer.Begin(kCapability);
  const std::array<std::pair<std::string_view, bool>, 9> features{{{"all_processes", can.sees_every_process},
                                                                   {"exclusive_marks", can.exclusive_marks},
                                                                   {"folio_marks", can.folio_marks},
                                                                   {"frames", can.frames},
                                                                   {"kpagecount", can.kpagecount},
                                                                   {"kpageflags", can.kpageflags},
                                                                   {"ksm_flag", can.merged_flag},
                                                                   {"pagemap_scan", can.pagemap_scan},
                                                                   {"page_mapcounts", can.page_mapcounts}}};
  for (const auto& [feature, has] : features) writer.Add({feature}, has ? 1 : 0);
  if (engine_.fork_watch) writer.Add({"fork_events"}, engine_.fork_watch->has_events() ? 1 : 0);
  for (const InstalledCollector& each : engine_.collectors) {
    if (const auto has = each.collector->capability()) {
      writer.Add({each.name}, *has ? 1 : 0);
    }
  }
}

std::vector<CollectedFamilies> Publisher::Collect() const {
  const auto is_empty = [](const prometheus::MetricFamily& family) { return family.metric.empty(); };
  std::vector<CollectedFamilies> collected;
  CollectedFamilies own;
  MetricWriter writer(own.families, own.declared);
  const std::map<std::string, GroupState> groups = SumGroups();
  PublishGroups(groups, writer);
  PublishInfo(groups, writer);
  PublishKnowledge(groups, writer);
  for (const InstalledCollector& each : engine_.collectors) {
    CollectedFamilies& made = collected.emplace_back(CollectedFamilies{each.stand_in ? "" : each.name, {}, {}});
    if (each.failed || each.last_failed || each.awaits_pass) continue;
    std::vector<GroupSums> sums;
    for (const auto& [name, state] : groups) {
      const std::span<const int64_t> gauges(state.gauges);
      const std::span<const uint64_t> counters(state.group->counters);
      sums.push_back({name, gauges.subspan(each.first_gauge, each.collector->gauges()),
                      counters.subspan(each.first_counter, each.collector->counters()),
                      engine_.scanner.capabilities().frames && !state.Has(memory::Mode::kNoFrames), state.Readable(),
                      state.scan_known, engine_.scanner.capabilities().page_mapcounts, state.HasUnreadable()});
    }
    MetricWriter made_writer(made.families, made.declared);
    try {
      each.collector->Publish(sums, made_writer);
    } catch (...) {
      made.families.clear();
      continue;
    }
    std::erase_if(made.families, is_empty);
  }
  PublishSelf(writer);
  std::erase_if(own.families, is_empty);
  collected.push_back(std::move(own));
  return collected;
}

std::vector<FamilySummary> Publisher::Families() const {
  std::vector<FamilySummary> summaries;
  const auto bytes = [this](int64_t pages) {
    return static_cast<uint64_t>(std::max<int64_t>(pages, 0)) * engine_.geometry.page_bytes;
  };
  for (const auto& [id, state] : engine_.states) {
    if (state.processes < 2 || state.left_out) continue;
    FamilySummary summary{state.root.first, state.root_comm, state.group_name, state.processes, {}, {}, {}};
    GroupState sums;
    sums.gauges.assign(engine_.gauges, 0);
    AddFamily(state, SystemTime(), sums);
    const auto in_mode = [&modes = state.modes](memory::Mode mode) { return modes.at(static_cast<size_t>(mode)); };
    const bool readable =
        in_mode(memory::Mode::kFull) || in_mode(memory::Mode::kNoKpage) || in_mode(memory::Mode::kNoFrames);
    for (const InstalledCollector& each : engine_.collectors) {
      if (!readable || each.stand_in || each.failed || each.last_failed || each.awaits_pass) continue;
      const std::span<const int64_t> gauges(sums.gauges);
      const auto memory = each.collector->DescribeFamily(gauges.subspan(each.first_gauge, each.collector->gauges()));
      if (!memory) continue;
      summary.shared_bytes = bytes(memory->shared_pages);
      summary.private_bytes = bytes(memory->private_pages);
      if (!in_mode(memory::Mode::kNoFrames)) summary.exposure_bytes = bytes(memory->exposure_pages);
    }
    summaries.push_back(std::move(summary));
  }
  std::stable_sort(summaries.begin(), summaries.end(),
                   [](const auto& a, const auto& b) { return a.exposure_bytes > b.exposure_bytes; });
  return summaries;
}

}  // namespace

std::vector<CollectedFamilies> CollectFamilies(const EngineView& engine) { return Publisher(engine).Collect(); }
std::vector<FamilySummary> SummarizeFamilies(const EngineView& engine) { return Publisher(engine).Families(); }

}  // namespace cow::collectors
