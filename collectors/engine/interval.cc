// Begins an interval: lists the processes, relates them to families, and finds the families to scan.
#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "collectors/engine/engine.h"
#include "collectors/engine/scan_order.h"
#include "collectors/memory/scan/departure.h"
#include "collectors/procfs/system.h"

namespace cow::collectors {
namespace {

using memory::Family;
using memory::Member;

// Page faults since each member was last read; lifetime faults if never read.
uint64_t FaultsSinceRead(const Family& family) {
  uint64_t faults = 0;
  for (const auto& member : family.members) {
    const procfs::Stat& stat = member->process->stat;
    const uint64_t before =
        member->reads.signals ? member->reads.signals->minor_faults + member->reads.signals->major_faults : 0;
    const uint64_t now = stat.minor_faults + stat.major_faults;
    faults += now - std::min(now, before);
  }
  return faults;
}

}  // namespace

bool Engine::BeginInterval(bool first) {
  const auto begin = SteadyClock::now();
  interval_began_at_ = std::chrono::system_clock::now();
  turns_ = std::make_unique<ScanTurns>(*control_, queue_);
  if (!UpdateProcesses()) return false;
  if (first) ++round_;
  if (first) skipped_members_ = 0;
  pass_options_ = {.full_every = options_.full_every,
                   .show_all = show_all_,
                   .signals_at = interval_began_at_,
                   .needs = collectors_.needs()};
  for (const InstalledCollector& each : collectors_.all()) {
    if (!each.awaits_pass && each.hooks != nullptr && each.hooks->needs().member_sums)
      pass_options_.count_breaks = true;
  }
  collectors_.BeginInterval();
  scanner_.BeginPass();
  NoteNamelessProcesses();
  groups_.BeginPass(begin);
  for (const std::string& label : namer_.FixedLabels()) groups_.Claim(label, {.named = true});
  bool changed = false;
  for (const auto& family : lineage_.families()) {
    if (control_->MustStop()) return false;
    UpdateFamily(*family, begin);
    if (!UpdateMembers(*family, states_.at(family->id), changed)) return false;
  }
  if (control_->MustStop()) return false;
  if (std::exchange(families_forgotten_, false)) EndFamiliesThatAreGone();
  groups_.Admit();
  const auto& unreadable = table_.unreadable();
  const bool nameless = std::any_of(unreadable.begin(), unreadable.end(),
                                    [](const auto& item) { return item.first != ErrorKind::kGone; });
  if (table_.over_limit() > 0 || nameless) groups_.Find(Groups::kOverflow);
  for (const auto& family : lineage_.families()) JoinGroup(states_.at(family->id));
  queue_.Fill(TakeDue(first));
  control_->Listed(changed);  // before pass_begin_ moves, so the previous interval's readings are still covered
  NoteLongLooks();
  pass_begin_ = interval_began_at_;
  return true;
}

// Lists the processes and finds their families.
bool Engine::UpdateProcesses() {
  const auto anon_before = ReadAnonPages();
  scanner_.forks().BeforeUpdate();
  if (!table_.Update(may_go_on_).value_or(false)) return false;
  scanner_.forks().AfterUpdate(table_);
  const auto anon_after = ReadAnonPages();
  const bool updated = lineage_.Update(table_, scanner_.probe(), may_go_on_);
  DropScansOfGoneFamilies();
  if (!updated) return false;
  ++pass_;
  SetHostSaved(anon_before, anon_after);
  return true;
}

// A scan refers to its family, so it must go with it. Both lists ascend by the family's id.
void Engine::DropScansOfGoneFamilies() {
  auto family = lineage_.families().begin();
  const auto end = lineage_.families().end();
  for (auto& [id, state] : states_) {
    while (family != end && (*family)->id < id) ++family;
    if (family == end || (*family)->id != id) state.scan.reset();
  }
}

void Engine::NoteNamelessProcesses() {
  const auto denied = table_.unreadable().find(ErrorKind::kDenied);
  if (denied != table_.unreadable().end()) notices_.NoteNameless(Groups::kOverflow, denied->second);
}

std::optional<double> Engine::ReadAnonPages() const {
  if (!scanner_.capabilities().sees_every_process) return std::nullopt;
  const auto bytes = procfs::ReadAnonPagesBytes(root_);
  if (!bytes) return std::nullopt;
  return static_cast<double>(*bytes);
}

// Processes are read one after another, so the difference is meaningless if AnonPages changed much meanwhile.
void Engine::SetHostSaved(std::optional<double> anon_before, std::optional<double> anon_after) {
  constexpr double kMaxChange = 0.01;
  self_.host_saved_bytes.reset();
  if (!anon_before || !anon_after) return;
  if (std::abs(*anon_after - *anon_before) > kMaxChange * std::max(*anon_before, *anon_after)) return;
  double sum = 0;
  for (const auto& family : lineage_.families()) {
    for (const auto& member : family->members) sum += static_cast<double>(member->process->RssAnonBytes());
  }
  const double saved = sum - (*anon_before + *anon_after) / 2;
  if (saved >= 0) self_.host_saved_bytes = saved;
}

// Updates the family's name and claims its group. Runs before windows are reported.
void Engine::UpdateFamily(Family& family, SteadyClock::time_point now) {
  const auto [item, is_new] = states_.try_emplace(family.id);
  FamilyState& state = item->second;
  state.pass = pass_;
  state.ledger_bytes = family.ledger.MemoryBytes();
  state.processes.resident_pages = 0;
  for (const auto& member : family.members) {
    state.processes.resident_pages += member->process->ResidentBytes() / geometry_.page_bytes;
  }
  if (is_new) state.sums.LayOut(collectors_.gauges(), {});
  FamilyNaming& naming = state.naming;
  if (!family.members.empty()) {
    const bool was_left_out = naming.left_out;
    namer_.Update(family, table_.pass(), now, naming, notices_);
    if (was_left_out && !naming.left_out) {
      Leave(family, state);
      state.baseline = true;
    }
    if (!naming.left_out) namer_.UpdateCgroup(*family.root()->process, pass_, naming);
  }
  if (!naming.left_out) groups_.Claim(naming.group_name, {naming.named, family.members.size() > 1});
}

// Subtracts ended members from the sums. Sets `changed` if a process joined or left. False if the pass was abandoned.
bool Engine::UpdateMembers(Family& family, FamilyState& state, bool& changed) {
  FamilyProcesses& processes = state.processes;
  const size_t members_before = processes.members;
  processes.members = family.members.size();
  processes.processes = family.members.size() + family.aliases.size();
  std::vector<Member*> gone;
  for (const auto& member : family.ended) {
    if (!member->life.taken_out) gone.push_back(member.get());
  }
  if (!state.naming.left_out) {
    if (state.scan != nullptr && state.scan->IsOutdated()) GiveUpScan(state);
    if (!TakeOut(family, gone, state)) return false;
  }
  for (Member* member : gone) member->life.taken_out = true;
  if (state.naming.left_out) return true;
  const bool alone_before = state.sums.alone_pages() != 0;
  if (family.members.size() > 1) state.sums.BeginToFade();
  state.unread_members.Update(family, geometry_, alone_before && family.members.size() > 1);
  processes.has_child = false;
  for (const auto& member : family.members) {
    if (member.get() == family.root() || !boot_time_) continue;
    const SystemTime start = StartOf(*member->process);
    if (!processes.has_child || start < processes.first_start) processes.first_start = start;
    processes.has_child = true;
  }
  changed = changed || !gone.empty() || members_before != processes.members;
  return true;
}

// False if the pass was abandoned.
bool Engine::TakeOut(Family& family, std::span<Member* const> gone, FamilyState& state) {
  if (gone.empty()) return true;
  if (family.members.empty()) {
    state.sums.Clear();
    state.unread_members.Clear();
    return true;
  }
  CollectorSet::Scratch& scratch = scratches_.front();
  memory::Departure departure(scanner_.host(), family, gone);
  while (const auto report = departure.Next(may_go_on_)) {
    collectors_.Accumulate(*report, state, scratch);
    state.sums.TakeOut(report->window, scratch.gauges, report->PresentPages());
  }
  return departure.done();
}

SystemTime Engine::StartOf(const memory::Process& process) const {
  const double seconds = static_cast<double>(*boot_time_) + static_cast<double>(process.start_ticks) / ticks_;
  return SystemTime(std::chrono::duration_cast<SystemTime::duration>(std::chrono::duration<double>(seconds)));
}

// Runs after all families have claimed their groups.
void Engine::JoinGroup(FamilyState& state) {
  if (state.naming.left_out) {
    state.group = nullptr;
    state.exported_as = {};
    return;
  }
  auto& [name, group] = *groups_.Find(state.naming.group_name);
  state.group = &group;
  state.exported_as = name;
}

// Returns the families to scan in this interval, in order.
std::vector<Family*> Engine::TakeDue(bool first) {
  std::vector<std::pair<Staleness, Family*>> stale;
  std::vector<Family*> served;  // had a turn in the previous interval and need another
  for (const auto& family : lineage_.families()) {
    if (control_->MustStop()) break;  // the scan checks this again
    FamilyState& state = states_.at(family->id);
    if (state.naming.left_out) {
      Leave(*family, state);
      state.round = 0;
      continue;
    }
    const SystemTime now = std::chrono::system_clock::now();
    const bool due = family->members.empty() || state.scan != nullptr || scanner_.IsDue(*family, pass_options_);
    if (!due) {
      if (first) skipped_members_ += family->members.size();
      state.round = 0;
      state.knowledge.verified_at = interval_began_at_;  // its change signals were read after that
      continue;
    }
    if (first) state.round = round_;
    if (state.scan != nullptr && state.served + 1 == pass_) {
      served.push_back(family.get());
      continue;
    }
    Staleness staleness{std::nullopt, FaultsSinceRead(*family), state.processes.resident_pages, family->id};
    const FamilyKnowledge& knowledge = state.knowledge;
    if (knowledge.completed) staleness.age = now - std::max(knowledge.read_at, knowledge.verified_at);
    stale.emplace_back(staleness, family.get());
  }
  std::sort(stale.begin(), stale.end(), [](const auto& a, const auto& b) { return ReadBefore(a.first, b.first); });
  std::vector<Family*> due;
  due.reserve(stale.size() + served.size());
  for (const auto& [staleness, family] : stale) due.push_back(family);
  due.insert(due.end(), served.begin(), served.end());
  return due;
}

// Notes for the log if a first look takes several intervals: until it ends, the values rest on assumptions about unread
// children.
void Engine::NoteLongLooks() {
  const auto left = control_->Left();
  if (left == ScanQueue::kNoLimit || left.count() <= 0) return;
  constexpr double kUsualNanosecondsPerPage = 60;
  constexpr uint64_t kEnoughPages = 1'000'000;
  const uint64_t pages_read = scanner_.Counters().pagemap_pages;
  const double per_page = pages_read < kEnoughPages
                              ? kUsualNanosecondsPerPage
                              : static_cast<double>(scan_cpu_.count()) / static_cast<double>(pages_read);
  for (const auto& [id, state] : states_) {
    if (state.pass != pass_ || state.naming.left_out || state.unread_members.empty()) continue;
    const auto fading = state.sums.fading_pages();
    double pages = state.unread_members.FadingShare(fading) * static_cast<double>(fading);
    for (const UnreadMember& member : state.unread_members.List()) pages += static_cast<double>(member.ResidentPages());
    const double intervals = pages * per_page / static_cast<double>(left.count());
    if (intervals > 1) notices_.NoteLongLook(state.naming.group_name, state.naming.root.first, std::ceil(intervals));
  }
}

}  // namespace cow::collectors
