// What the engine keeps of a family from pass to pass. Plain structs. Thread rule: during a scan only the thread that
// scans the family uses its state.
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
  constexpr std::array kByKind{kGone, kDenied, kMalformed, kTooLarge, kMalformed};
  return kByKind.at(static_cast<size_t>(kind));
}

// The root that named the family's group, and the name.
struct FamilyNaming {
  std::string name;        // by the rules
  std::string group_name;  // `name` as a label value; beyond max_groups the family joins the overflow group
  bool judged = false;     // by the current rules
  bool labelled = false;   // with the current label length
  bool named = false;      // by a rule, not by the default
  bool left_out = false;   // by the rules: neither scanned nor exported

  std::pair<pid_t, uint64_t> root;  // pid and start time
  uint64_t described = 0;           // the root's since_pass when it was described
  std::string root_comm;
  uint32_t root_uid = 0;
  SteadyClock::time_point user_due;  // when the user is read again without a change signal

  // Hash of the root's command line; empty if no rule asked for it or it can't be read.
  std::optional<size_t> command_line;
  SteadyClock::time_point command_line_due;    // when it is read again
  SteadyClock::duration command_line_pause{};  // before that reading; doubles each time

  std::string exe;
  procfs::CgroupNames cgroup_names;
  std::string cgroup_path;
  std::optional<procfs::CgroupMemory> cgroup_memory;
};

// How well the family is known, as of its last completed scan.
struct FamilyKnowledge {
  bool completed = false;  // false: no scan was completed, and the rest is unset
  SystemTime read_at;      // begin of the last completed scan
  SystemTime verified_at;  // last time without a moved change signal since then
  std::array<bool, memory::kModes> modes{};
  std::array<uint64_t, kUnreadReasons.size()> unread{};
  uint64_t unread_pages = 0;
  bool scan_known = true;
  bool looked_at = false;  // a scan has read something or found that it can read nothing; set before `completed`
};

// The processes of the family in the current interval.
struct FamilyProcesses {
  size_t processes = 0;
  size_t members = 0;
  uint64_t resident_pages = 0;  // by the kernel's sums
  bool has_child = false;
  SystemTime first_start;  // of the oldest forked child
};

struct FamilyState {
  uint64_t pass = 0;  // last interval that listed the family
  FamilyNaming naming;
  FamilyProcesses processes;
  FamilyKnowledge knowledge;

  Group* group = nullptr;        // in the current interval; null: left out
  std::string_view exported_as;  // name of `group`
  bool baseline = false;         // was left out until now: counts nothing before its first completed pass

  std::unique_ptr<memory::FamilyScan> scan;  // unfinished scan, which may be between two turns
  uint64_t served = 0;                       // last interval in which it had a turn
  uint64_t round = 0;                        // the pass that waits for its scan; 0: none

  FamilySums sums;                 // gauges of collectors
  std::vector<uint64_t> counters;  // of collectors, since the last MergeIntoGroup
  UnreadMembers unread_members;    // of a family of two or more members
  size_t ledger_bytes = 0;
  size_t looks_bytes = 0;  // at the end of its last scan

  // Forgets everything about its pages.
  void Forget() {
    sums.Clear();
    unread_members.Clear();
    knowledge.completed = false;
    knowledge.looked_at = false;
    looks_bytes = 0;
  }
  // Adds the counters since the last call to the group.
  void MergeIntoGroup() {
    if (group == nullptr) return;
    for (size_t i = 0; i < counters.size(); ++i) group->counters[i] += counters[i];
    counters.assign(counters.size(), 0);
    group->looked_at = group->looked_at || knowledge.looked_at;
  }
};

}  // namespace cow::collectors
