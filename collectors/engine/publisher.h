// From what the engine keeps to metric families: families are summed up to groups, and the groups, how well they are
// known, the sums of the collectors and the engine itself are published. Reads only; what it reads may not change
// meanwhile.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "collectors/engine/engine.h"
#include "collectors/engine/engine_state.h"
#include "collectors/engine/fork_watch.h"
#include "collectors/groups/groups.h"
#include "collectors/memory/ledger/ledger_budget.h"
#include "collectors/memory/process/process_table.h"
#include "collectors/memory/scan/scanner.h"

namespace cow::collectors {

// The engine, as far as it is published.
struct EngineView {
  const EngineOptions& options;
  const procfs::PageGeometry& geometry;
  const memory::ProcessTable& table;
  const memory::Scanner& scanner;
  const std::vector<memory::ScanCounters>& scan_counters;  // by thread
  const memory::LedgerBudget& budget;
  const std::optional<ForkWatch>& fork_watch;
  const Groups& groups;
  const std::map<std::string, uint64_t>& unread_keys;
  const std::vector<InstalledCollector>& collectors;
  size_t gauges = 0;  // of all collectors
  const std::map<uint64_t, FamilyState>& states;
  SystemTime pass_begin;
  uint64_t pass = 0;
  uint64_t full_passes = 0;
  uint64_t incremental_passes = 0;
  uint64_t skipped_processes = 0;
  std::optional<double> host_saved;
};

// Both as the engine's methods.
std::vector<CollectedFamilies> CollectFamilies(const EngineView& engine);
std::vector<FamilySummary> SummarizeFamilies(const EngineView& engine);

}  // namespace cow::collectors
