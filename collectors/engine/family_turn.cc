// Scans families turn by turn, adds their reports up, and ends an interval.
#include <algorithm>
#include <mutex>
#include <variant>
#include <vector>

#include "collectors/base/cpu_clock.h"
#include "collectors/engine/engine.h"
#include "collectors/procfs/ksm.h"

namespace cow::collectors {

using memory::Family;

bool Engine::ScanAll() {
  turns_->Run(workers_, options_.threads, [this](ScanTurns::Turn& turn) { return Scan(turn); });
  return !turns_->abandoned();
}

bool Engine::Scan(ScanTurns::Turn& turn) {
  Family& family = *turn.family;
  FamilyState& state = states_.at(family.id);
  state.served = pass_;
  if (state.scan == nullptr) {
    state.sums.BeginScan();
    state.scan = scanner_.Begin(family, pass_options_);
  }
  memory::ScanWorker& worker = scanner_.worker(turn.thread);
  CollectorSet::Scratch& scratch = scratches_[turn.thread];
  const std::chrono::nanoseconds cpu_before = ThreadCpuTime();
  bool finished = false;
  while (!finished && turns_->MayStep(turn)) {
    const memory::ScanStep step = state.scan->Next(worker, may_go_on_);
    if (std::holds_alternative<memory::Interrupted>(step)) turns_->Abandon();
    finished = Take(step, family, state, scratch);
    state.ledger_bytes = family.ledger.MemoryBytes();
  }
  const std::lock_guard lock(turns_->mutex());
  state.MergeIntoGroup();
  scan_cpu_ += ThreadCpuTime() - cpu_before;
  if (!finished) return false;
  state.scan.reset();
  // Moved pages need a scan of all members, in the next turn.
  if (family.must_read_all) return false;
  state.round = 0;
  return true;
}

bool Engine::Take(const memory::ScanStep& step, Family& family, FamilyState& state, CollectorSet::Scratch& scratch) {
  if (const auto* window = std::get_if<memory::WindowReport>(&step)) {
    AddWindow(*window, state, scratch);
  } else if (const auto* unchanged = std::get_if<memory::UnchangedWindow>(&step)) {
    state.sums.Verify(unchanged->window, unchanged->read_at);
  } else if (const auto* moved = std::get_if<memory::MovedReport>(&step)) {
    collectors_.Accumulate(*moved, state, scratch);
  } else if (const auto* report = std::get_if<memory::FamilyReport>(&step)) {
    EndScan(*report, family, state, scratch);
    return true;
  }
  return false;
}

void Engine::AddWindow(const memory::WindowReport& report, FamilyState& state, CollectorSet::Scratch& scratch) {
  collectors_.Accumulate(report, state, scratch);
  // A first scan may take long; its readings are published meanwhile.
  if (!state.knowledge.completed) {
    for (const auto& member : report.family->members) {
      if (!member->reads.waits) state.knowledge.modes.at(static_cast<size_t>(member->access.mode)) = true;
    }
    state.knowledge.looked_at = true;
  }
  state.unread_members.OnWindow(report);
  state.sums.AddWindow(report.window, scratch.gauges, report.PresentPages(), report.read_at, report.alone);
}

void Engine::EndScan(const memory::FamilyReport& report, Family& family, FamilyState& state,
                     CollectorSet::Scratch& scratch) {
  skipped_members_ += report.skipped;
  collectors_.Accumulate(report, state, scratch);
  const std::lock_guard lock(turns_->mutex());
  collectors_.CallHooks(state, scratch,
                        [&](CollectorWithHooks& hooks, const Tally& tally) { hooks.OnFamily(report, tally); });
  const uint64_t unwalked = report.unwalked.anon_bytes + report.unwalked.hugetlb_bytes + report.unwalked.swap_bytes;
  state.sums.EndScan(scratch.gauges, unwalked / geometry_.page_bytes, report.alone);
  state.unread_members.OnScanEnd(family, report.alone);

  FamilyKnowledge& knowledge = state.knowledge;
  knowledge.unread.fill(0);
  knowledge.unread_pages = 0;
  for (const auto& member : family.members) {
    if (!member->access.unread) continue;
    knowledge.unread_pages += member->process->ResidentBytes() / geometry_.page_bytes;
    ++knowledge.unread.at(ReasonOf(member->access.unread->kind));
  }
  knowledge.modes = report.modes;
  knowledge.looked_at = true;
  knowledge.scan_known = report.scan_known;
  knowledge.completed = true;
  knowledge.read_at = report.read_at;
  notices_.Note(state.naming.group_name, family);

  for (const auto& member : lineage_.Settle(family)) {
    const memory::EndReport end{&family, member.get()};
    collectors_.Accumulate(end, state, scratch);
    collectors_.CallHooks(state, scratch,
                          [&](CollectorWithHooks& hooks, const Tally& tally) { hooks.OnEnd(end, tally); });
  }
  family.BookMemory();
  state.looks_bytes = family.looks.MemoryBytes();
}

bool Engine::EndInterval() {
  for (const auto& family : lineage_.families()) {
    if (!control_->Continue()) return false;
    ShowPass(*family);
  }
  EndFamiliesThatAreGone();
  collectors_.CallHooks([](CollectorWithHooks& hooks) { hooks.OnPassEnd(); });
  collectors_.EndInterval();
  namer_.EndPass(pass_);
  trim_.AfterPass(lineage_.budget().used_bytes);
  return true;
}

void Engine::ShowPass(const Family& family) {
  FamilyState& state = states_[family.id];
  std::vector<Result<procfs::KsmStat>> ksm;
  if (collectors_.needs().ksm_stat && !state.naming.left_out) {
    ksm.reserve(family.members.size());
    for (const auto& member : family.members) ksm.push_back(procfs::ReadKsmStat(root_, member->process->pid));
  }
  const FamilyPass pass{&family, ksm};
  CollectorSet::Scratch& scratch = scratches_.front();
  collectors_.Clear(scratch);
  collectors_.CallHooks(state, scratch,
                        [&pass](CollectorWithHooks& hooks, const Tally& tally) { hooks.OnPass(pass, tally); });
  state.sums.SetPassCells(scratch.gauges);
  if (state.knowledge.completed) state.baseline = false;
}

bool Engine::RoundGoesOn() const {
  return std::any_of(states_.begin(), states_.end(), [this](const auto& item) { return item.second.round == round_; });
}

// Ends families that the current interval did not list.
void Engine::EndFamiliesThatAreGone() {
  std::erase_if(states_, [this](auto& item) {
    auto& [id, state] = item;
    if (state.pass == pass_) return false;
    collectors_.CallHooks([id = id](CollectorWithHooks& hooks) { hooks.OnFamilyGone(id); });
    return true;
  });
}

// Forgets everything that the family has shown.
void Engine::Leave(Family& family, FamilyState& state) {
  GiveUpScan(state);
  lineage_.Leave(family);
  state.Forget();
}

void Engine::GiveUpScan(FamilyState& state) {
  if (state.scan != nullptr) state.scan->GiveUp();
  state.scan.reset();
}

void Engine::GiveUpScans() {
  for (auto& [id, state] : states_) GiveUpScan(state);
}

}  // namespace cow::collectors
