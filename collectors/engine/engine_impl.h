// The parts of the engine. A pass uses them in this order: RunPass → BeginInterval (interval.cc: processes, families,
// groups, due families) → Scan (family_turn.cc) → EndInterval → Sums → Publish. Private to engine.h, whose thread rule
// applies.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "collectors/base/steps.h"
#include "collectors/engine/collector_set.h"
#include "collectors/engine/engine.h"
#include "collectors/engine/engine_sums.h"
#include "collectors/engine/family_namer.h"
#include "collectors/engine/family_state.h"
#include "collectors/engine/fork_watch.h"
#include "collectors/engine/mode_notices.h"
#include "collectors/engine/publisher.h"
#include "collectors/engine/scan_queue.h"
#include "collectors/engine/scan_turns.h"
#include "collectors/engine/worker_threads.h"
#include "collectors/groups/groups.h"
#include "collectors/memory/family/lineage.h"
#include "collectors/memory/process/process_table.h"
#include "collectors/memory/scan/memory_trim.h"
#include "collectors/memory/scan/scanner.h"

namespace cow::collectors {

class Engine::Impl {
 public:
  Impl(procfs::Root root, EngineOptions options, std::span<const Registration> registry);

  bool RunPass(PassControl& control);
  void Reconfigure(EngineOptions options);
  bool NewForks() {
    if (!fork_watch_) fork_watch_.emplace(root_, scanner_.forks().Relay());
    return fork_watch_->Look(table_);
  }
  std::vector<CollectedFamilies> Collect() const { return Publish(Sums(), collectors_); }
  std::vector<FamilySummary> Families() const;
  std::vector<ModeNotice> TakeNotices();
  std::chrono::nanoseconds HelperCpuTime() const { return workers_.CpuTime(); }

 private:
  bool TryPass(PassControl& control);
  // Updates processes, families and groups, and finds the due families. `first`: the pass begins. False if the
  // processes can't be listed or the control says stop.
  bool BeginInterval(bool first);
  bool UpdateProcesses();
  void NoteNamelessProcesses();
  void UpdateFamily(memory::Family& family, SteadyClock::time_point now);
  bool UpdateMembers(memory::Family& family, FamilyState& state, bool& changed);
  bool TakeOut(memory::Family& family, std::span<memory::Member* const> gone, FamilyState& state);
  void JoinGroup(FamilyState& state);
  std::vector<memory::Family*> TakeDue(bool first);
  bool ScanAll();
  // False if the pass was abandoned.
  bool EndInterval();
  // True while a family that was due at the begin of the pass waits for the end of its scan.
  bool RoundGoesOn() const;

  // Makes steps of the family's scan. True if the scan is over.
  bool Scan(ScanTurns::Turn& turn);
  // Adds one report up. True if the scan is over.
  bool Take(const memory::ScanStep& step, memory::Family& family, FamilyState& state, CollectorSet::Scratch& scratch);
  void AddWindow(const memory::WindowReport& report, FamilyState& state, CollectorSet::Scratch& scratch);
  void EndScan(const memory::FamilyReport& report, memory::Family& family, FamilyState& state,
               CollectorSet::Scratch& scratch);
  void ShowPass(const memory::Family& family);

  void Leave(memory::Family& family, FamilyState& state);
  void GiveUpScan(FamilyState& state);
  void GiveUpScans();
  void DropScansOfGoneFamilies();
  void EndFamiliesThatAreGone();
  void Install(CollectorSet::List list);
  void NoteLongLooks();

  EngineSums Sums() const;
  SumRules RulesOfSums(SystemTime horizon) const { return {collectors_, pass_, horizon}; }
  std::optional<double> ReadAnonPages() const;
  void SetHostSaved(std::optional<double> anon_before, std::optional<double> anon_after);
  SystemTime StartOf(const memory::Process& process) const;  // the boot time must be known

  procfs::Root root_;
  EngineOptions options_;
  procfs::PageGeometry geometry_;
  std::optional<uint64_t> boot_time_;  // seconds since the epoch; empty if procfs is mounted with subset=pid
  double ticks_ = 100;

  memory::ProcessTable table_;
  memory::Scanner scanner_;
  memory::Lineage lineage_;
  memory::MemoryTrim trim_;
  std::optional<ForkWatch> fork_watch_;  // empty until the first NewForks; reads the scanner's fork events
  FamilyNamer namer_;
  Groups groups_;
  CollectorSet collectors_;
  ModeNotices notices_;
  std::map<uint64_t, FamilyState> states_;  // by family
  bool families_forgotten_ = false;         // `states_` still has families that Lineage has forgotten

  WorkerThreads workers_;
  std::vector<CollectorSet::Scratch> scratches_;  // by thread
  PassControl* control_ = nullptr;
  MayGoOn may_go_on_ = [this] { return !control_->MustStop(); };
  ScanQueue queue_;  // if the processes can't be listed, it keeps the families of the previous interval
  std::unique_ptr<ScanTurns> turns_;  // of the current interval
  memory::PassOptions pass_options_;
  bool show_all_ = false;  // report unchanged windows and families too

  uint64_t pass_ = 0;   // counts intervals; each has its own process list
  uint64_t round_ = 0;  // counts calls of RunPass
  SystemTime pass_begin_;
  SystemTime interval_began_at_;               // before its list of processes was read
  std::chrono::nanoseconds scan_cpu_{0};       // of all scans so far
  std::atomic<uint64_t> skipped_members_ = 0;  // in the current pass
  SelfTotals self_;                            // only the values that passes change
};

uint64_t PresentPages(const memory::WindowReport& report);

}  // namespace cow::collectors
