// Makes the collectors. The table is in registry.cc: one line per collector. Any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "collectors/collector.h"
#include "collectors/netlink/taskstats.h"
#include "collectors/options.h"
#include "collectors/procfs/root.h"
#include "collectors/procfs/system.h"
#include "collectors/symbols/symbolizer.h"

namespace cow::collectors {

// A collector as the command line, the configuration and the help see it.
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
  // Counters outside all groups; empty at first. The engine keeps them while the collector is off, so they continue
  // when it is switched on again.
  std::shared_ptr<std::vector<uint64_t>> totals;
  std::shared_ptr<netlink::TaskstatsSockets> taskstats = nullptr;  // the engine sets it
  std::shared_ptr<symbols::Symbolizer> symbolizer = nullptr;       // likewise; null: none was started
};

// One line of the registry.
struct Registration {
  std::string_view name;
  std::string_view help;
  bool enabled_by_default = false;
  std::unique_ptr<Collector> (*make)(const CollectorContext& context) = nullptr;
  // Makes the stand-in that runs while the collector is not enabled; null: none.
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
std::unique_ptr<Collector> MakeWriters(const CollectorContext& context);
std::unique_ptr<Collector> MakeZeroPage(const CollectorContext& context);

}  // namespace cow::collectors
