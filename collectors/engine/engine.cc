#include "collectors/engine/engine.h"

#include <algorithm>
#include <iterator>
#include <stdexcept>
#include <utility>

#include "collectors/procfs/process_list.h"
#include "collectors/procfs/system.h"

namespace cow::collectors {
namespace {

// A quarter of the descriptors keeps files of processes open. Page tables take another quarter, connections the rest.
size_t KeptFiles() {
  return std::min<uint64_t>(memory::ProcessTable::kMaxKeptFiles, procfs::RaiseDescriptorLimit() / 4);
}

}  // namespace

Engine::Engine(procfs::Root root, EngineOptions options, std::span<const Registration> registry,
               netlink::GivenSockets sockets)
    : root_(std::move(root)),
      options_(std::move(options)),
      geometry_(procfs::RequirePageGeometry(root_)),
      scanner_(root_, geometry_, options_.threads),
      table_(root_, options_.max_processes, KeptFiles(), scanner_.layouts()),
      lineage_(geometry_, scanner_.zero_frame(), options_.ledger_bytes),
      namer_(root_, options_.groups),
      groups_(options_.max_groups, 0),
      collectors_(root_, geometry_, registry, netlink::OpenTaskstatsSockets(sockets)),
      workers_(scanner_.threads()),
      scratches_(scanner_.threads()) {
  Install(collectors_.Make(options_));
  namer_.SetLimits(options_.label_value_length, options_.full_every);
  if (scanner_.layouts() == memory::LayoutSource::kAuxiliaryVector) {
    notices_.NoteLacking(
        "ptrace",
        "exe, stat and kcmp hide other users' processes without CAP_SYS_PTRACE: programs are known from their "
        "mappings, shared address spaces from their pages");
  }
  if (options_.fork_events) {
    if (auto events = netlink::OpenProcEvents(root_, netlink::kEventRoomBytes, sockets)) {
      scanner_.forks().Listen(std::move(*events));
    }
  }
  if (const auto boot_time = procfs::ReadBootTimeSeconds(root_)) boot_time_ = *boot_time;
  ticks_ = static_cast<double>(procfs::ReadClockTicksPerSecond(root_));
  if (const auto listed = procfs::ListProcesses(root_); !listed) throw std::runtime_error(listed.error().ToString());
}

void Engine::Install(CollectorSet::List list) {
  const std::vector<CellMove> moves = collectors_.Install(std::move(list), pass_ != 0);
  groups_.GrowTo(collectors_.counters());
  for (auto& [id, state] : states_) state.sums.LayOut(collectors_.gauges(), moves);
  for (CollectorSet::Scratch& scratch : scratches_) collectors_.Clear(scratch);
}

void Engine::Reconfigure(EngineOptions options) {
  CollectorSet::List list = collectors_.Make(options);
  std::optional<GroupRules> rules;
  if (options.groups != options_.groups) rules.emplace(options.groups);
  scanner_.GrowTo(options.threads);
  workers_.GrowTo(options.threads);
  scratches_.resize(scanner_.threads());
  // Nothing below rejects an option.
  const bool other_options = options.collector_options != options_.collector_options;
  const bool other_collectors = options.collectors != options_.collectors;
  if (other_options || other_collectors) {
    CollectorSet::SetOptions(list, options.collector_options);
    GiveUpScans();
    Install(std::move(list));
    show_all_ = true;
  }
  const bool other_labels = options.label_value_length != options_.label_value_length;
  // A shorter full_every takes effect at once.
  const bool full_sooner = options.full_every < options_.full_every;
  if (full_sooner) show_all_ = true;
  for (auto& [id, state] : states_) {
    if (rules) state.naming.judged = false;
    if (rules || full_sooner) state.naming.user_due = {};
    if (other_labels) state.naming.labelled = false;
  }
  if (rules) namer_.SetRules(std::move(*rules));
  namer_.SetLimits(options.label_value_length, options.full_every);
  if (options.max_groups != options_.max_groups) groups_.SetLimit(options.max_groups);
  table_.SetMaxProcesses(options.max_processes);
  lineage_.SetLedgerLimit(options.ledger_bytes);
  if (options.interval.count() == 0) fork_watch_.reset();  // no caller needs it
  options_ = std::move(options);
}

bool Engine::RunPass(PassControl& control) {
  try {
    return TryPass(control);
  } catch (...) {
    // The ledgers are incomplete. All current memory becomes the baseline, so nothing is counted twice.
    queue_.Fill({});
    for (auto& [id, state] : states_) state.scan.reset();
    lineage_.Forget(table_);
    families_forgotten_ = true;
    throw;
  }
}

bool Engine::TryPass(PassControl& control) {
  control_ = &control;
  // The sums of a failed collector stay incomplete until a pass has reported everything.
  show_all_ = show_all_ || collectors_.AnyFailed();
  collectors_.BeginPass();
  if (show_all_) GiveUpScans();
  if (!BeginInterval(true)) return false;
  while (true) {
    if (!ScanAll() || !EndInterval()) return false;
    if (!RoundGoesOn()) break;
    // If the processes can't be listed, those of the previous interval remain.
    if (!BeginInterval(false) && control_->MustStop()) return false;
  }
  collectors_.EndPass();
  show_all_ = false;
  self_.skipped_processes = skipped_members_;
  ++(skipped_members_ == 0 ? self_.full_passes : self_.incremental_passes);
  return true;
}

EngineSums Engine::Sums() const {
  EngineSums sums;
  for (const auto& [name, group] : groups_.all()) {
    if (!group.exported) continue;
    GroupTotals& totals = sums.groups[name];
    totals.looked_at = group.looked_at;
    totals.scan_known = scanner_.capabilities().pagemap_scan;
    totals.gauges.assign(collectors_.gauges(), 0);
    totals.counters = group.counters;
  }
  const SumRules rules = RulesOfSums(std::min(pass_begin_, std::chrono::system_clock::now() - options_.interval));
  SelfTotals& self = sums.self;
  self = self_;
  for (const auto& [id, state] : states_) {
    if (state.pass == pass_) {
      self.ledger_bytes += state.ledger_bytes;
      self.looks_bytes += state.looks_bytes;
    }
    if (state.naming.left_out) continue;
    auto found = sums.groups.find(state.naming.group_name);
    if (found == sums.groups.end()) {
      const auto group = groups_.all().find(state.naming.group_name);
      if (group != groups_.all().end() && group->second.awaits_second_pass) continue;
      found = sums.groups.find(Groups::kOverflow);
    }
    if (found != sums.groups.end()) AddFamily(state, rules, found->second);
  }
  const auto other = sums.groups.find(Groups::kOverflow);
  if (other != sums.groups.end()) {
    other->second.unread.at(kBudget) += table_.over_limit();
    // Processes may end while they are listed. The others have no known name, so they count here.
    for (const auto& [kind, count] : table_.unreadable()) {
      if (kind != ErrorKind::kGone) other->second.unread.at(ReasonOf(kind)) += count;
    }
  }
  self.reads = scanner_.Counters();
  self.capabilities = scanner_.capabilities();
  const memory::LedgerBudget& budget = lineage_.budget();
  for (size_t purpose = 0; purpose < self.memory_bytes.size(); ++purpose)
    self.memory_bytes.at(purpose) = budget.UsedFor(static_cast<memory::MemoryPurpose>(purpose));
  self.reduced_windows = budget.reduced_windows;
  self.groups_overflowed = groups_.overflowed();
  self.unread_keys = namer_.unread_keys();
  if (fork_watch_) self.fork_events = fork_watch_->has_events();
  if (fork_watch_ && fork_watch_->has_events()) self.fork_event_overruns = fork_watch_->overruns();
  return sums;
}

std::vector<FamilySummary> Engine::Families() const {
  std::vector<FamilySummary> summaries;
  for (const auto& [id, state] : states_) {
    if (state.processes.processes < 2 || state.naming.left_out) continue;
    summaries.push_back(Summarize(state, RulesOfSums({}), geometry_.page_bytes));
  }
  std::stable_sort(summaries.begin(), summaries.end(),
                   [](const auto& a, const auto& b) { return a.exposure_bytes > b.exposure_bytes; });
  return summaries;
}

std::vector<ModeNotice> Engine::TakeNotices() {
  for (const auto& [collector, reason] : collectors_.TakeFailures()) notices_.NoteFailure(collector, reason);
  return notices_.Take();
}

}  // namespace cow::collectors
