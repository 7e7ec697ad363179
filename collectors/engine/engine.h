// The engine turns /proc into metric families. It owns the process table, the families with their ledgers, the groups
// with their counters, and the enabled collectors.
//
// Thread rule: one thread, the scanning one, calls everything but HelperCpuTime. It may call Collect and Families also
// from within PassControl::Continue and Listed, where the state is consistent: gauges then sum each window's latest
// reading. The engine's own threads help it to scan; collectors say which of their calls these make.
#pragma once

#include <prometheus/metric_family.h>

#include <chrono>
#include <memory>
#include <span>
#include <vector>

#include "collectors/engine/engine_types.h"
#include "collectors/engine/pass_control.h"
#include "collectors/procfs/root.h"
#include "collectors/registry.h"

namespace cow::collectors {

class Engine {
 public:
  // Probes the kernel and this process' rights below `root`. Throws std::invalid_argument on bad options and
  // std::runtime_error where `root` is no procfs at all; nothing throws after construction.
  Engine(procfs::Root root, EngineOptions options);
  // The same with collectors of another table than the program's, which outlives the last call of Reconfigure.
  Engine(procfs::Root root, EngineOptions options, std::span<const Registration> registry);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Lists processes, scans the families, updates every collector. True if the pass was completed, false if `control`
  // ended it or the process list could not be read.
  bool RunPass(PassControl& control);

  // Between two passes, also after one that was abandoned: what is other in `options` counts from the next pass on. All
  // that is known of processes, families and groups stays: families keep their records and are judged by new rules,
  // counters go on where they were, those of a collector that is switched off and on again too, without what happened
  // meanwhile. Metrics of a collector that is new are there after its first pass. Throws std::invalid_argument on bad
  // options, and then nothing is changed.
  void Reconfigure(EngineOptions options);

  // Whether a process that was forked by a known one since the last pass is there to stay: a pass now gives it an early
  // first look. Meant to be asked a few times a second; the first call opens the kernel's fork events, where there are.
  bool NewForks();

  // All families of the latest values: the groups' metrics and the engine's own (scan pages, passes, ledger,
  // collectors' duration and success, capabilities). Label values are valid UTF-8, families are unique by name and
  // never empty.
  std::vector<prometheus::MetricFamily> Collect() const;
  // The same, by who made them: an entry for each enabled collector, also for one that has nothing to tell, and one for
  // what no collector made.
  std::vector<CollectedFamilies> CollectByCollector() const;

  // Families of two processes or more, largest exposure first. Thread rule as Collect's.
  std::vector<FamilySummary> Families() const;

  // CPU time so far of the threads that scan besides the calling one. Any thread, but not during Reconfigure.
  std::chrono::nanoseconds HelperCpuTime() const;

  // What has to be told since the call before; each group and mode once, and each collector and reason. Of the scanning
  // thread.
  std::vector<ModeNotice> TakeNotices();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace cow::collectors
