// What the engine keeps from pass to pass: written while it scans, read where metrics are published. Plain structs; the
// thread rule is the engine's.
#pragma once

#include <sys/types.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "collectors/base/result.h"
#include "collectors/collector.h"
#include "collectors/engine/family_sums.h"
#include "collectors/engine/unread_members.h"
#include "collectors/groups/groups.h"
#include "collectors/memory/scan/views.h"
#include "collectors/procfs/cgroup.h"

namespace cow::collectors {

using SteadyClock = std::chrono::steady_clock;

inline constexpr std::array<std::string_view, 5> kUnreadReasons{"denied", "gone", "budget", "malformed", "too_large"};
enum UnreadReason : size_t { kDenied, kGone, kBudget, kMalformed, kTooLarge };

inline UnreadReason ReasonOf(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kDenied:
      return kDenied;
    case ErrorKind::kGone:
      return kGone;
    case ErrorKind::kTooLarge:
      return kTooLarge;
    case ErrorKind::kMalformed:
    case ErrorKind::kIo:
      break;
  }
  return kMalformed;
}

// One enabled collector and its part of the cells.
struct InstalledCollector {
  std::string_view name;
  bool stand_in = false;  // of a collector that is not enabled
  std::shared_ptr<Collector> collector;
  bool awaits_pass = false;  // made while others had been at work: its sums are not whole yet
  size_t first_gauge = 0;
  size_t first_counter = 0;
  SteadyClock::duration spent{};       // in the current pass
  bool failed = false;                 // in the current pass
  SteadyClock::duration last_spent{};  // in the last completed pass
  bool last_failed = false;
};

// The memory of a cgroup, for all families in it.
struct CgroupOfPath {
  std::optional<procfs::CgroupMemory> memory;
  uint64_t read = 0;  // pass that read it
  uint64_t used = 0;  // pass that asked for it last
};

// What the engine keeps of a family.
struct FamilyState {
  std::string name;                 // by the rules
  std::string group_name;           // cut to a label; where there was no room for it, `group` is the overflow's
  bool labelled = false;            // `name`, and what describes the root: made labels of the length in force
  bool judged = false;              // by the rules in force
  bool named = false;               // a rule named it, not the default
  bool left_out = false;            // by the rules: neither scanned nor exported
  bool baseline = false;            // it was left out, and no pass was completed since: nothing is counted yet
  Group* group = nullptr;           // of the pass under way
  std::string_view exported_as;     // its name
  std::pair<pid_t, uint64_t> root;  // pid and start time of the root that named the group
  uint64_t described = 0;           // since_pass of the root when it was described
  std::string root_comm;
  uint32_t root_uid = 0;
  SteadyClock::time_point user_due;  // when it is asked for though nothing of the root changed
  std::optional<size_t>
      command_line;  // hash of the root's; empty unless a rule asked for it, or where it can't be read
  SteadyClock::time_point command_line_due;    // when it is read again
  SteadyClock::duration command_line_pause{};  // from then to the time after
  FamilySums sums;                             // of collectors
  UnreadMembers unread_members;                // of a family of two or more
  uint64_t served = 0;                         // the last interval in which it had a turn
  uint64_t round = 0;                          // the pass that waits for a scan of it; 0: none does
  uint64_t resident_pages = 0;                 // of the members, by the kernel's sums, at the pass under way
  uint64_t unread_pages = 0;
  std::array<uint64_t, kUnreadReasons.size()> unread{};
  std::array<bool, memory::kModes> modes{};
  bool scan_known = true;
  bool completed = false;  // a pass was
  SystemTime read_at;      // end of the last completed pass
  SystemTime verified_at;  // when nothing was found to have changed since
  SystemTime first_start;  // of the oldest forked child
  bool has_child = false;
  size_t processes = 0;
  size_t members = 0;
  std::string exe;
  procfs::CgroupNames names;
  std::string cgroup_path;
  std::optional<procfs::CgroupMemory> cgroup_memory;
  size_t ledger_bytes = 0;
  size_t looks_bytes = 0;  // at the end of the last pass over it
  uint64_t pass = 0;
};

}  // namespace cow::collectors
