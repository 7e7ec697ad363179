// The engine turns /proc into metric families. It owns the process table, the families with their ledgers, the groups
// with their counters, and the enabled collectors.
//
// Thread rule: call everything except HelperCpuTime from one thread, the scanning thread. It may also call Collect and
// Families from within PassControl::Continue and Listed: the state is consistent there, and gauges sum each window's
// latest reading. The engine's own threads help to scan; collector.h says which calls of a collector they make.
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
  // std::runtime_error if `root` is not a procfs.
  Engine(procfs::Root root, EngineOptions options);
  // Likewise, with the collectors of `registry`, which must outlive the last call of Reconfigure.
  Engine(procfs::Root root, EngineOptions options, std::span<const Registration> registry);
  ~Engine();
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
  bool NewForks();

  // Returns the metric families of the latest values: the groups' metrics and the engine's own (scan pages, passes,
  // ledger, collectors' duration and success, capabilities). Label values are valid UTF-8. Metric families have unique
  // names and are never empty.
  std::vector<prometheus::MetricFamily> Collect() const;
  // Returns the same by collector: one entry per enabled collector, which may be empty, and one for the engine's own.
  std::vector<CollectedFamilies> CollectByCollector() const;

  // Returns families of two processes or more, largest exposure first.
  std::vector<FamilySummary> Families() const;

  // Returns the CPU time of the engine's own threads so far. Any thread may call it, but not during Reconfigure.
  std::chrono::nanoseconds HelperCpuTime() const;

  // Returns the notices since the last call: one per group and mode, and one per collector and reason.
  std::vector<ModeNotice> TakeNotices();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace cow::collectors
