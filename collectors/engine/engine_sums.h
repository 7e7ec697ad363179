// A snapshot of the engine's sums, by group and of the engine itself. Publishing reads nothing else. Plain values; make
// them while no thread scans.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "collectors/engine/collector_set.h"
#include "collectors/engine/engine_types.h"
#include "collectors/engine/family_state.h"
#include "collectors/memory/ledger/ledger_budget.h"
#include "collectors/memory/read/host.h"
#include "collectors/memory/read/scan_counters.h"
#include "collectors/procfs/cgroup.h"

namespace cow::collectors {

// A value that all families of a group have in common; empty once two families differ.
template <class Value>
class Common {
 public:
  void Add(const Value& value) {
    if (!first_) first_ = value;
    if (*first_ != value) differs_ = true;
  }
  bool exists() const { return first_ && !differs_; }
  Value value() const { return exists() ? *first_ : Value(); }

 private:
  std::optional<Value> first_;
  bool differs_ = false;
};

struct GroupTotals {
  std::vector<int64_t> gauges;     // of all collectors
  std::vector<uint64_t> counters;  // of all collectors
  size_t processes = 0;
  size_t families = 0;  // of two members or more
  bool has_members = false;
  bool has_unseen = false;  // some family has no completed scan
  bool looked_at = false;   // a scan has read something or found that it can read nothing
  std::array<bool, memory::kModes> modes{};
  bool scan_known = true;
  std::array<uint64_t, kUnreadReasons.size()> unread{};
  uint64_t covered_pages = 0;
  uint64_t known_pages = 0;
  std::optional<SystemTime> oldest_read;
  std::optional<SystemTime> oldest_child;
  Common<std::string> unit;
  Common<std::string> container_id;
  Common<std::string> pod_uid;
  Common<std::string> exe;
  Common<std::string> cgroup_path;
  std::optional<procfs::CgroupMemory> cgroup_memory;  // of the first family

  bool Has(memory::Mode mode) const { return modes.at(static_cast<size_t>(mode)); }
  bool HasUnreadable() const { return Has(memory::Mode::kNoPagemap) || Has(memory::Mode::kNone); }
  // True if some page table was read or there is none to read. Nothing is known before the first look.
  bool Readable() const {
    if (has_unseen && !looked_at) return false;
    return !HasUnreadable() || Has(memory::Mode::kFull) || Has(memory::Mode::kNoKpage) || Has(memory::Mode::kNoFrames);
  }
  // Returns the memory of the cgroup that all families are in; null if they differ or the cgroup has no limit.
  const procfs::CgroupMemory* LimitedCgroup() const {
    const bool limited = cgroup_path.exists() && cgroup_memory && cgroup_memory->limit_bytes;
    return limited ? &*cgroup_memory : nullptr;
  }
};

struct SelfTotals {
  memory::ScanCounters reads;
  memory::Capabilities capabilities;
  std::array<uint64_t, memory::kMemoryPurposes.size()> memory_bytes{};  // by MemoryPurpose
  uint64_t reduced_windows = 0;
  size_t ledger_bytes = 0;
  size_t looks_bytes = 0;
  uint64_t full_passes = 0;
  uint64_t incremental_passes = 0;
  uint64_t skipped_processes = 0;
  size_t groups_overflowed = 0;
  std::map<std::string, uint64_t> unread_keys;
  std::optional<double> host_saved_bytes;
  std::optional<bool> sandbox;                  // empty: SetSandbox was not called
  std::optional<bool> fork_events;              // empty: NewForks was not called
  std::optional<uint64_t> fork_event_overruns;  // empty: no fork events
};

struct EngineSums {
  std::map<std::string, GroupTotals> groups;
  SelfTotals self;
};

// What AddFamily needs to know about the current pass.
struct SumRules {
  const CollectorSet& collectors;
  uint64_t pass = 0;   // the current one
  SystemTime horizon;  // older readings are not covered
};
void AddFamily(const FamilyState& state, const SumRules& rules, GroupTotals& totals);

// Sums up one family by its latest readings.
FamilySummary Summarize(const FamilyState& state, const SumRules& rules, size_t page_bytes);

// Makes metric families from the sums: one entry per enabled collector and one for the engine itself, without empty
// metric families. Reads nothing else (publisher.cc).
std::vector<CollectedFamilies> Publish(const EngineSums& sums, const CollectorSet& collectors);

}  // namespace cow::collectors
