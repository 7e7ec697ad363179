// Collects notices for the log: processes that are not fully visible, and collectors that fail. What the exporter lacks
// rights for is reported once. What single processes deny is reported once per group and mode; one notice covers all
// new groups, so hundreds of them do not flood the log. Not thread-safe.
#pragma once

#include <array>
#include <cstddef>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "collectors/engine/engine_types.h"
#include "collectors/memory/family/family.h"

namespace cow::collectors {

// The values of label `mode`.
inline constexpr std::array<std::string_view, memory::kModes> kModeNames{"full", "no_kpage", "no_frames", "no_pagemap",
                                                                         "none"};

class ModeNotices {
 public:
  // Adds the family's modes. Call it after each completed scan.
  void Note(const std::string& group, const memory::Family& family);
  // Adds processes without a known name, because /proc/PID/stat is denied.
  void NoteNameless(const std::string& group, size_t processes);
  // Adds a rule that does not match because it needs a key of the root that can't be read.
  void NoteUnreadKey(const std::string& group, pid_t pid, const std::string& key);
  // Adds a failed collector; repeated reasons are ignored.
  void NoteFailure(std::string_view collector, const std::string& reason);
  // Adds a family whose first look takes `intervals` intervals.
  void NoteLongLook(const std::string& group, pid_t pid, double intervals);
  // Adds a feature of cow_exporter_capability that is lacking.
  void NoteLacking(std::string_view feature, std::string reason);
  // Returns the notices since the last call.
  std::vector<ModeNotice> Take();

 private:
  void Add(const std::string& group, memory::Mode mode, pid_t pid, std::string reason);

  std::set<std::pair<std::string, memory::Mode>> told_;
  std::map<memory::Mode, ModeNotice> fresh_;
  std::set<std::string> told_keys_;
  std::set<std::string> told_long_looks_;
  std::vector<ModeNotice> fresh_keys_;
  std::set<std::pair<std::string, std::string>> told_failures_;
};

}  // namespace cow::collectors
