// The engine: one object that turns /proc into metric families. It owns the process table, the families with their
// ledgers, the groups with their counters, and the enabled collectors.
//
// Thread rule: RunPass and Collect are called by one thread, the scanning one. Collect may also be called from within
// PassControl::Continue, where the state is consistent: gauges then sum each window's latest reading. What is shared
// with other threads is the result of Collect, which is a value. Where families are scanned by several threads, these
// are the engine's own: collectors and PassControl are called by any of them, one at a time.
#pragma once

#include <prometheus/metric_family.h>
#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "collectors/groups/group_rules.h"
#include "collectors/metrics.h"
#include "collectors/options.h"
#include "collectors/procfs/root.h"
#include "collectors/registry.h"

namespace cow::collectors {

struct EngineOptions {
  std::vector<std::string> collectors;  // names of the enabled ones; an unknown name throws std::invalid_argument
  CollectorOptions collector_options;
  size_t max_groups = 200;                       // later ones are added up in group "_other"
  size_t max_processes = 20000;                  // further ones are counted as unread, reason "budget"
  size_t label_value_length = 128;               // bytes; longer values are cut at a UTF-8 boundary
  uint64_t ledger_bytes = uint64_t{256} << 20U;  // over it records keep one bit instead of a frame
  // Time between passes: values older than it are not covered. 0: a pass at each scrape.
  std::chrono::milliseconds interval{0};
  // A family is read at least this often, also if nothing of it seems to have changed. 0: in every pass.
  std::chrono::milliseconds full_every{0};
  // False: as where the kernel sends no fork events. Read once, when the engine is made.
  bool fork_events = true;
  // Families are scanned in parallel by so many, the calling one among them. What is counted does not depend on it.
  size_t threads = 1;
  GroupOptions groups;
};

// A family of two processes or more, by its latest readings.
struct FamilySummary {
  pid_t root = 0;
  std::string comm;  // of the root: any bytes
  std::string group;
  size_t processes = 0;
  // Of its anonymous memory; empty where the collector `sharing` is off, or no page table could be read.
  std::optional<uint64_t> shared_bytes;
  std::optional<uint64_t> private_bytes;
  std::optional<uint64_t> exposure_bytes;  // empty also where frames are hidden
};

// That some processes can't be seen in full, and why, or that a collector failed: for the log.
struct ModeNotice {
  std::string mode;   // as in cow_group_mode; empty: a rule of groups could not be asked
  size_t groups = 0;  // that are concerned, told for the first time
  std::string group;  // one of them
  pid_t pid = 0;      // one of its processes; 0 where none is known
  std::string reason;
  std::string collector = {};  // that failed, for this reason and no mode or group; empty: none
  double intervals = 0;        // that the first look at a family of the group takes; 0: the notice is of something else
};

// What one collector made.
struct CollectedFamilies {
  std::string_view collector;  // as in the registry; empty: of the engine itself
  std::vector<prometheus::MetricFamily> families;
  std::vector<const Metric*> declared{};  // all that it has, those without a series too
};

// Asked at least every 10 ms, never while a kernel lock is held.
class PassControl {
 public:
  virtual ~PassControl() = default;
  // True abandons the pass at once. Asked amid a window, so it must not sleep; by any thread, several at a time.
  virtual bool MustStop() const { return false; }
  // May sleep (CPU budget): meanwhile all that scan wait at the end of their window. False abandons the pass at once;
  // counters keep what was counted, and the next pass goes on with scans that were not over. By any scanning thread,
  // one at a time.
  virtual bool Continue() = 0;
  // The interval under way. It grows in Continue only; the pass then brings the process list up to date, and goes on.
  virtual uint64_t Interval() const { return 0; }
  // CPU time that may still be spent in this interval; max(): no limit. By any scanning thread, one at a time.
  virtual std::chrono::nanoseconds Left() { return std::chrono::nanoseconds::max(); }
  // The process list is that of a new interval, and Collect gives its values. `changed`: processes joined or left
  // families. By the thread that calls RunPass.
  virtual void Listed(bool /*changed*/) {}
};

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
