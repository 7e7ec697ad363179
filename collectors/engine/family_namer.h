// Finds the group that a family claims and the labels that describe it, both by the family's root. Judges a root again
// when it execs, renames itself or changes its user, and when rules change.
//
// Reads the root's /proc/PID/status and cmdline and its cgroup's memory files when they are due. Files that can't be
// read count as missing. Not thread-safe.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <unordered_map>

#include "collectors/engine/family_state.h"
#include "collectors/engine/mode_notices.h"
#include "collectors/groups/group_rules.h"
#include "collectors/memory/family/family.h"
#include "collectors/memory/process/process_table.h"
#include "collectors/procfs/cgroup.h"
#include "collectors/procfs/root.h"

namespace cow::collectors {

class FamilyNamer {
 public:
  // Throws std::invalid_argument on bad rules.
  FamilyNamer(procfs::Root root, const GroupOptions& groups);

  void SetRules(GroupRules rules) { rules_ = std::move(rules); }
  void SetLimits(size_t label_bytes, std::chrono::milliseconds full_every);

  // Returns the labels of the groups that rules name without a variable.
  std::vector<std::string> FixedLabels() const;
  // Updates the name. `table_pass`: pass of the process table. The family must have a member.
  void Update(const memory::Family& family, uint64_t table_pass, SteadyClock::time_point now, FamilyNaming& naming,
              ModeNotices& notices);
  // Reads the memory of the family's cgroup, at most once per pass.
  void UpdateCgroup(const memory::Process& root, uint64_t pass, FamilyNaming& naming);
  // Forgets cgroups that no family used in `pass`.
  void EndPass(uint64_t pass);

  // How often a rule needed a key that could not be read, by key.
  const std::map<std::string, uint64_t>& unread_keys() const { return unread_keys_; }

 private:
  // The memory of one cgroup, shared by all families in it.
  struct CgroupOfPath {
    std::optional<procfs::CgroupMemory> memory;
    uint64_t read = 0;  // last pass that read it
    uint64_t used = 0;  // last pass that used it
  };

  void ReadUser(const memory::Family& family, uint64_t table_pass, SteadyClock::time_point now, FamilyNaming& naming);
  // Reads the command line if it is due. True if it has changed.
  bool CommandLineChanged(const memory::Family& family, SteadyClock::time_point now, FamilyNaming& naming);
  void Judge(const memory::Process& root, FamilyNaming& naming, ModeNotices& notices);
  void Describe(const memory::Process& root, FamilyNaming& naming) const;

  procfs::Root root_;
  size_t label_bytes_ = 0;
  std::chrono::milliseconds full_every_{0};
  GroupRules rules_;
  std::map<std::string, uint64_t> unread_keys_;
  std::unordered_map<std::string, CgroupOfPath> cgroups_;
};

}  // namespace cow::collectors
