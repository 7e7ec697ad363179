// The enabled collectors, where their numbers are, and what their calls cost. One that throws loses its own metrics for
// that pass, and no other's.
//
// Accumulate is for any scanning thread, for one family at a time; everything else comes one at a time.
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
#include "collectors/engine/cell_layout.h"
#include "collectors/engine/engine_types.h"
#include "collectors/engine/family_state.h"
#include "collectors/registry.h"

namespace cow::collectors {

struct InstalledCollector {
  // In the current pass.
  struct Health {
    std::atomic<int64_t> spent_nanoseconds = 0;
    std::atomic<bool> failed = false;
  };

  std::string_view name;
  bool stand_in = false;  // of a collector that is not enabled
  std::shared_ptr<Collector> collector;
  CollectorWithHooks* hooks = nullptr;  // the same, if it has some
  bool awaits_pass = false;             // made while others had been at work: its sums are not whole yet
  size_t first_gauge = 0;
  size_t first_counter = 0;
  std::shared_ptr<Health> health = std::make_shared<Health>();
  std::chrono::nanoseconds last_spent{0};  // in the last completed pass
  bool last_failed = false;

  std::span<const int64_t> GaugesIn(std::span<const int64_t> all) const {
    return all.subspan(first_gauge, collector->gauges());
  }
  std::span<int64_t> GaugesIn(std::span<int64_t> all) const { return all.subspan(first_gauge, collector->gauges()); }
  // Its values are whole.
  bool IsPublished() const { return !health->failed && !last_failed && !awaits_pass; }
};

class CollectorSet {
 public:
  using List = std::vector<InstalledCollector>;
  // Buffers of one thread.
  struct Scratch {
    std::vector<int64_t> gauges;
    std::vector<uint64_t> nobodys;  // counters that are thrown away
  };

  CollectorSet(procfs::Root root, procfs::PageGeometry geometry, std::span<const Registration> registry)
      : root_(std::move(root)), geometry_(geometry), registry_(registry) {}

  // The collectors that the options ask for, those that are there already with what they remember. Throws
  // std::invalid_argument on an unknown name.
  List Make(const EngineOptions& options);
  // Lays them out. `late`: others have been at work before. Returns where the gauges of those that stay have moved.
  std::vector<CellMove> Install(List list, bool late);
  // Call it before Install.
  static void SetOptions(const List& list, const CollectorOptions& options);

  const List& all() const { return list_; }
  size_t gauges() const { return gauges_; }
  size_t counters() const { return counters_; }  // only grows: what was counted stays where it is
  const memory::Needs& needs() const { return needs_; }

  // Has each collector add the report up; the gauges are in `scratch` then. Counters go to the family's.
  void Accumulate(const memory::Report& report, FamilyState& state, Scratch& scratch);
  // Calls call(hooks, tally) for collectors with hooks. Counters go to the group's, gauges add to those in `scratch`.
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
  // Name and reason of each failure since the last call.
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
  // Of collectors that there are or were.
  std::map<std::string_view, std::shared_ptr<std::vector<uint64_t>>> totals_;
  std::map<std::pair<std::string_view, bool>, size_t> first_counters_;
  List list_;
  memory::Needs needs_;
  size_t gauges_ = 0;
  size_t counters_ = 0;
  std::mutex failures_mutex_;
  std::vector<std::pair<std::string_view, std::string>> failures_;
};

}  // namespace cow::collectors
