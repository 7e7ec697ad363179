// What the log is told of processes that can't be seen in full, and of collectors that fail. What the exporter's own
// rights hide is told once; what is denied of single processes once for each group and mode, in one line for all groups
// that are new in a pass, so that hundreds of them are no flood. Not thread-safe.
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
  // Looks at a family after its pass.
  void Note(const std::string& group, const memory::Family& family);
  // Processes of which not even a name is known, because stat itself is denied.
  void NoteNameless(const std::string& group, size_t processes);
  // A rule asked for a key of a group's root that can't be read, so it does not match.
  void NoteUnreadKey(const std::string& group, pid_t pid, const std::string& key);
  // A collector failed, in one pass or in each, at one process or at all.
  void NoteFailure(std::string_view collector, const std::string& reason);
  // The first look at a family takes so many intervals.
  void NoteLongLook(const std::string& group, pid_t pid, double intervals);
  // What is new since the call before.
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
