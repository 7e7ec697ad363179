// What the engine takes and gives. Plain values.
#pragma once

#include <prometheus/metric_family.h>
#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "collectors/groups/group_rules.h"
#include "collectors/metrics.h"
#include "collectors/options.h"

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

}  // namespace cow::collectors
