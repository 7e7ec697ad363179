// The engine's options and results. Plain values.
#pragma once

#include <prometheus/metric_family.h>
#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "collectors/base/group_rule.h"
#include "collectors/metrics.h"
#include "collectors/options.h"
#include "collectors/symbols/symbolizer.h"

namespace cow::collectors {

struct EngineOptions {
  std::vector<std::string> collectors;  // names of the enabled ones
  CollectorOptions collector_options;
  size_t max_groups = 200;                       // the rest is summed up in group "_other"
  size_t max_processes = 20000;                  // the rest counts as unread, reason "budget"
  size_t label_value_length = 128;               // bytes; longer values are cut at a UTF-8 boundary
  uint64_t ledger_bytes = uint64_t{256} << 20U;  // beyond it, new records keep no frames
  // Time between passes; older values are not covered. 0: a pass at each scrape.
  std::chrono::milliseconds interval{0};
  // Each family is read at least this often, even without a change signal. 0: in every pass.
  std::chrono::milliseconds full_every{0};
  // False ignores the kernel's fork events. Read only at construction.
  bool fork_events = true;
  // How many families are scanned in parallel; the calling thread is one of them. Does not change any count.
  size_t threads = 1;
  GroupOptions groups;
  // Names code for the collector `writers`; its processes were started before this one was confined. Read when the
  // collector is made.
  std::shared_ptr<symbols::Symbolizer> symbolizer;
};

// A family of two processes or more, by its latest readings.
struct FamilySummary {
  pid_t root = 0;
  std::string comm;  // of the root: any bytes
  std::string group;
  size_t processes = 0;
  // Anonymous memory; empty if the collector `sharing` is off or no page table could be read.
  std::optional<uint64_t> shared_bytes;
  std::optional<uint64_t> private_bytes;
  std::optional<uint64_t> exposure_bytes;  // also empty if frames are hidden
};

// A notice for the log: some processes are not fully visible, a collector failed, a first look takes long, or a feature
// is lacking.
struct ModeNotice {
  std::string mode;   // as in cow_group_mode; empty: a group rule needs a file that can't be read
  size_t groups = 0;  // groups with this mode that no earlier notice named
  std::string group;  // one of them
  pid_t pid = 0;      // one of its processes; 0: unknown
  std::string reason;
  std::string collector = {};  // the collector that failed, without mode and group; empty: not a failure
  double intervals = 0;        // duration of the first look at a family of `group`; 0: not about a first look
  std::string feature = {};    // of cow_exporter_capability, which is lacking; empty: not about a feature
};

// The metric families of one collector.
struct CollectedFamilies {
  std::string_view collector;  // as in the registry; empty: the engine itself
  std::vector<prometheus::MetricFamily> families;
  std::vector<const Metric*> declared{};  // all its metrics, including those without a series
};

}  // namespace cow::collectors
