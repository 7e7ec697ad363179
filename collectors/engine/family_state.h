// What the engine keeps of a family from pass to pass. Plain structs. While threads scan, one thread at a time works on
// a family's state: the one that scans it.
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
#include "collectors/engine/family_sums.h"
#include "collectors/engine/unread_members.h"
#include "collectors/groups/groups.h"
#include "collectors/memory/family/family.h"
#include "collectors/memory/scan/family_scan.h"
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

// The root that named the family's group, and what it is called by.
struct FamilyNaming {
  std::string name;        // by the rules
  std::string group_name;  // cut to a label; where there was no room for it, the group is the overflow's
  bool judged = false;     // by the rules in force
  bool labelled = false;   // labels have the length in force
  bool named = false;      // by a rule, not by the default
  bool left_out = false;   // by the rules: neither scanned nor exported

  std::pair<pid_t, uint64_t> root;  // pid and start time
  uint64_t described = 0;           // since_pass of the root when it was described
  std::string root_comm;
  uint32_t root_uid = 0;
  SteadyClock::time_point user_due;  // when the user is read again though no signal of the root changed

  // The hash of the root's command line; empty unless a rule asked for it, or where it can't be read.
  std::optional<size_t> command_line;
  SteadyClock::time_point command_line_due;    // when it is read again
  SteadyClock::duration command_line_pause{};  // from then to the time after

  std::string exe;
  procfs::CgroupNames cgroup_names;
  std::string cgroup_path;
  std::optional<procfs::CgroupMemory> cgroup_memory;
};

// How well the family is known, as of its last completed scan.
struct FamilyKnowledge {
  bool completed = false;  // a scan was; else nothing of this is known
  SystemTime read_at;      // before the first page of that scan was read
  SystemTime verified_at;  // when no signal of a change had moved since
  std::array<bool, memory::kModes> modes{};
  std::array<uint64_t, kUnreadReasons.size()> unread{};
  uint64_t unread_pages = 0;
  bool scan_known = true;
  bool looked_at = false;  // a first look has shown something of it, or that nothing can be seen
};

// The processes of the family, as of the pass under way.
struct FamilyProcesses {
  size_t processes = 0;
  size_t members = 0;
  uint64_t resident_pages = 0;  // by the kernel's sums
  bool has_child = false;
  SystemTime first_start;  // of the oldest forked child
};

struct FamilyState {
  uint64_t pass = 0;  // that saw it last
  FamilyNaming naming;
  FamilyProcesses processes;
  FamilyKnowledge knowledge;

  Group* group = nullptr;        // of the pass under way; null: it is left out
  std::string_view exported_as;  // its name
  bool baseline = false;         // it was left out, and no pass was completed since: nothing is counted yet

  std::unique_ptr<memory::FamilyScan> scan;  // under way, or it rests
  uint64_t served = 0;                       // the last interval in which it had a turn
  uint64_t round = 0;                        // the pass that waits for a scan of it; 0: none does

  FamilySums sums;                 // gauges of collectors
  std::vector<uint64_t> counters;  // of collectors, since they were merged into the group's
  UnreadMembers unread_members;    // of a family of two or more
  size_t ledger_bytes = 0;
  size_t looks_bytes = 0;  // at the end of its last scan

  // Forgets all that is known of its pages.
  void Forget() {
    sums.Clear();
    unread_members.Clear();
    knowledge.completed = false;
    knowledge.looked_at = false;
    looks_bytes = 0;
  }
  // Adds to the group what was counted and seen since the last call.
  void MergeIntoGroup() {
    if (group == nullptr) return;
    for (size_t i = 0; i < counters.size(); ++i) group->counters[i] += counters[i];
    counters.assign(counters.size(), 0);
    group->looked_at = group->looked_at || knowledge.looked_at;
  }
};

}  // namespace cow::collectors
