// Holds the enabled collectors, the places of their cells, and the time their calls take. A collector that throws loses
// only its own metrics, and only for that pass.
//
// Thread rule: several scanning threads may call Accumulate, each for another family. Do not overlap other calls.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "collectors/collector.h"
#include "collectors/engine/engine_types.h"
#include "collectors/engine/family_state.h"
#include "collectors/engine/family_sums.h"
#include "collectors/netlink/taskstats.h"
#include "collectors/registry.h"

namespace cow::collectors {

struct InstalledCollector {
  // In the current pass.
  struct Health {
    std::atomic<int64_t> spent_nanoseconds = 0;
    std::atomic<bool> failed = false;
  };

  std::string_view name;
  bool stand_in = false;  // stands in for a collector that is not enabled
  std::shared_ptr<Collector> collector;
  CollectorWithHooks* hooks = nullptr;  // the same collector; null if it has no hooks
  bool awaits_pass = false;             // enabled at run time: its sums are incomplete until its first pass ends
  size_t first_gauge = 0;
  size_t first_counter = 0;
  std::shared_ptr<Health> health = std::make_shared<Health>();
  std::chrono::nanoseconds last_spent{0};  // in the last completed pass
  bool last_failed = false;

  std::span<const int64_t> GaugesIn(std::span<const int64_t> all) const {
    return all.subspan(first_gauge, collector->gauges());
  }
  std::span<int64_t> GaugesIn(std::span<int64_t> all) const { return all.subspan(first_gauge, collector->gauges()); }
  // True if its values are complete.
  bool IsPublished() const { return !health->failed && !last_failed && !awaits_pass; }
};

class CollectorSet {
 public:
  using List = std::vector<InstalledCollector>;
  // Buffers of one thread.
  struct Scratch {
    std::vector<int64_t> gauges;
    std::vector<uint64_t> discarded;  // counters that are not published
  };

  CollectorSet(procfs::Root root, procfs::PageGeometry geometry, std::span<const Registration> registry,
               std::shared_ptr<netlink::TaskstatsSockets> taskstats)
      : root_(std::move(root)), geometry_(geometry), registry_(registry), taskstats_(std::move(taskstats)) {}

  // Makes the collectors that the options name. Collectors that exist already keep their state. Throws
  // std::invalid_argument on an unknown name.
  List Make(const EngineOptions& options);
  // Assigns cells to `list` and installs it. `late`: a pass was made before. Returns where the gauges of the remaining
  // collectors moved.
  std::vector<CellMove> Install(List list, bool late);
  // Call it before Install.
  static void SetOptions(const List& list, const CollectorOptions& options);

  const List& all() const { return list_; }
  size_t gauges() const { return gauges_; }
  size_t counters() const { return counters_; }  // only grows: counters never move
  const memory::Needs& needs() const { return needs_; }

  // Lets each collector add the report up: gauges into `scratch`, counters into the family's.
  void Accumulate(const memory::Report& report, FamilyState& state, Scratch& scratch);
  // Calls call(hooks, tally) for collectors with hooks. Gauges add to those in `scratch`, counters to the group's.
  template <class Call>
  void CallHooks(const FamilyState& state, Scratch& scratch, Call&& call) {
    for (InstalledCollector& each : list_) {
      if (each.hooks == nullptr) continue;
      Guard(each, [&] { call(*each.hooks, TallyFor(each, state, GroupCounters(each, state, scratch), scratch)); });
    }
  }
  template <class Call>
  void CallHooks(Call&& call) {
    for (InstalledCollector& each : list_) {
      if (each.hooks != nullptr) Guard(each, [&] { call(*each.hooks); });
    }
  }
  void Clear(Scratch& scratch) const;

  bool AnyFailed() const;
  void BeginPass();
  void BeginInterval();
  void EndInterval();
  void EndPass();
  // Returns name and reason of each failure since the last call.
  std::vector<std::pair<std::string_view, std::string>> TakeFailures();

 private:
  template <class Call>
  void Guard(InstalledCollector& each, Call&& call) {
    const auto begin = SteadyClock::now();
    try {
      call();
    } catch (const std::exception& error) {
      NoteFailure(each, error.what());
    } catch (...) {
      NoteFailure(each, "unknown");
    }
    each.health->spent_nanoseconds += std::chrono::nanoseconds(SteadyClock::now() - begin).count();
  }
  void NoteFailure(InstalledCollector& each, std::string reason);
  std::shared_ptr<Collector> FindOrMake(const Registration& entry, bool stand_in, const EngineOptions& options);
  static Tally TallyFor(const InstalledCollector& each, const FamilyState& state, std::span<uint64_t> counters,
                        Scratch& scratch);
  static std::span<uint64_t> GroupCounters(const InstalledCollector& each, const FamilyState& state, Scratch& scratch);

  procfs::Root root_;
  procfs::PageGeometry geometry_;
  std::span<const Registration> registry_;
  // Of all collectors that were ever enabled.
  std::map<std::string_view, std::shared_ptr<std::vector<uint64_t>>> totals_;
  // Opened at once, because a process that serves can't create sockets.
  std::shared_ptr<netlink::TaskstatsSockets> taskstats_;
  std::shared_ptr<symbols::Symbolizer> symbolizer_;  // of the first options that had one
  std::map<std::pair<std::string_view, bool>, size_t> first_counters_;
  List list_;
  memory::Needs needs_;
  size_t gauges_ = 0;
  size_t counters_ = 0;
  std::mutex failures_mutex_;
  std::vector<std::pair<std::string_view, std::string>> failures_;
};

}  // namespace cow::collectors
