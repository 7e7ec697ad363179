// The engine turns /proc into metric families. It owns the process table, the families with their ledgers, the groups
// with their counters, and the enabled collectors. A pass uses its parts in this order: RunPass → BeginInterval
// (interval.cc: processes, families, groups, due families) → Scan (family_turn.cc) → EndInterval → Sums → Publish.
//
// Thread rule: call everything except HelperCpuTime from one thread, the scanning thread. It may also call
// CollectByCollector and Families from within PassControl::Continue and Listed: the state is consistent there, and
// gauges sum each window's latest reading. The engine's own threads help to scan; collector.h says which calls of a
// collector they make.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "collectors/base/steps.h"
#include "collectors/engine/collector_set.h"
#include "collectors/engine/engine_sums.h"
#include "collectors/engine/engine_types.h"
#include "collectors/engine/family_namer.h"
#include "collectors/engine/family_state.h"
#include "collectors/engine/fork_watch.h"
#include "collectors/engine/mode_notices.h"
#include "collectors/engine/pass_control.h"
#include "collectors/engine/scan_turns.h"
#include "collectors/engine/worker_threads.h"
#include "collectors/groups/groups.h"
#include "collectors/memory/family/lineage.h"
#include "collectors/memory/process/process_table.h"
#include "collectors/memory/scan/memory_trim.h"
#include "collectors/memory/scan/scanner.h"
#include "collectors/netlink/given_sockets.h"
#include "collectors/procfs/root.h"
#include "collectors/registry.h"

namespace cow::collectors {

class Engine {
 public:
  // Probes the kernel and this process' rights below `root`. Throws std::invalid_argument on bad options and
  // std::runtime_error if `root` is not a procfs.
  Engine(procfs::Root root, EngineOptions options) : Engine(std::move(root), std::move(options), Registry()) {}
  // Likewise, with the collectors of `registry`, which must outlive the last call of Reconfigure, and sockets for the
  // kernel's reports.
  Engine(procfs::Root root, EngineOptions options, std::span<const Registration> registry,
         netlink::GivenSockets sockets = {});
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Lists processes, scans the families and updates every collector. False if `control` ended the pass or the process
  // list could not be read. Rethrows exceptions of a scan or of `control`, after it has made all memory the baseline.
  bool RunPass(PassControl& control);

  // Applies `options` from the next pass on. Call it between two passes; the last one may have been abandoned.
  // Processes, families and groups keep their state; new rules judge the families again. Counters continue, also those
  // of a collector that was off for a while: what happened meanwhile is not counted. A new collector publishes after
  // its first pass. Throws std::invalid_argument on bad options and then changes nothing.
  void Reconfigure(EngineOptions options);

  // True if a known process has forked a lasting child since the last pass; a pass now gives the child an early first
  // look. Call it a few times a second. The first call opens the kernel's fork events if there are any.
  bool NewForks() {
    if (!fork_watch_) fork_watch_.emplace(root_, scanner_.forks().Relay());
    return fork_watch_->Look(table_);
  }

  // Publishes whether every part of the sandbox is in force, as one of the capabilities.
  void SetSandbox(bool complete) { self_.sandbox = complete; }

  // Returns the metric families of the latest values: one entry per enabled collector, which may be empty, and one for
  // the engine's own (scan pages, passes, ledger, collectors' duration and success, capabilities). Label values are
  // valid UTF-8. Metric families have unique names and are never empty.
  std::vector<CollectedFamilies> CollectByCollector() const { return Publish(Sums(), collectors_); }

  // Returns families of two processes or more, largest exposure first.
  std::vector<FamilySummary> Families() const;

  // Returns the CPU time of the engine's own threads so far. Any thread may call it, but not during Reconfigure.
  std::chrono::nanoseconds HelperCpuTime() const { return workers_.CpuTime(); }

  // Returns the notices since the last call: one per group and mode, and one per collector and reason.
  std::vector<ModeNotice> TakeNotices();

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

  memory::Scanner scanner_;
  memory::ProcessTable table_;
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

}  // namespace cow::collectors
