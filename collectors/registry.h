// How each collector is made; the table itself is in registry.cc.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "collectors/collector.h"
#include "collectors/options.h"
#include "collectors/procfs/root.h"
#include "collectors/procfs/system.h"

namespace cow::collectors {

// What is told about a collector before any is made: for the command line, the configuration and the help.
struct CollectorInfo {
  std::string_view name;
  std::string_view help;  // one line
  bool enabled_by_default = false;
};
std::vector<CollectorInfo> AvailableCollectors();

// What a collector is made from.
struct CollectorContext {
  procfs::Root root;
  procfs::PageGeometry geometry;
  CollectorOptions options;
  // For what it counts in no group; empty at first. The engine keeps it: a collector that is switched off and on again
  // is made anew, and goes on where this was.
  std::shared_ptr<std::vector<uint64_t>> totals;
};

// One line of the registry.
struct Registration {
  std::string_view name;
  std::string_view help;
  bool enabled_by_default = false;
  std::unique_ptr<Collector> (*make)(const CollectorContext& context) = nullptr;
  // What stands in for it while it is not enabled, for processes whose page table is denied. Most have none.
  std::unique_ptr<Collector> (*make_stand_in)(const CollectorContext& context) = nullptr;
};
std::span<const Registration> Registry();

std::unique_ptr<Collector> MakeCow(const CollectorContext& context);
std::unique_ptr<Collector> MakeDelayacct(const CollectorContext& context);
std::unique_ptr<Collector> MakeFaults(const CollectorContext& context);
std::unique_ptr<Collector> MakeKsm(const CollectorContext& context);
std::unique_ptr<Collector> MakeProcess(const CollectorContext& context);
std::unique_ptr<Collector> MakeSharing(const CollectorContext& context);
std::unique_ptr<Collector> MakeSmaps(const CollectorContext& context);
std::unique_ptr<Collector> MakeSmapsOfDenied(const CollectorContext& context);
std::unique_ptr<Collector> MakeThp(const CollectorContext& context);
std::unique_ptr<Collector> MakeZeroPage(const CollectorContext& context);

}  // namespace cow::collectors
