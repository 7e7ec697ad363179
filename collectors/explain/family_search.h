// Finds families by the name of a process or by their group. Not thread-safe.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "collectors/groups/group_rules.h"
#include "collectors/memory/family/lineage.h"
#include "collectors/procfs/root.h"

namespace cow::explain {

struct FoundFamily {
  pid_t pid = 0;             // the oldest process that fits
  std::string comm;          // of that process: any bytes
  std::string command_line;  // likewise; empty if it can't be read or there is none
  size_t processes = 0;
  uint64_t resident_bytes = 0;  // sum over the processes
};

struct FamilySearch {
  std::vector<FoundFamily> families;  // those that fit, most processes first, then largest first
  std::vector<std::string> names;     // all names that a search could have given: distinct, ascending
};

// A process has the name if its comm is the name, cut to the kernel's 15 bytes. If there is none: if its program's base
// name is. If there is none either: if its comm begins with the name. The calling process is left out.
FamilySearch FindByName(const procfs::Root& root, const memory::Lineage& lineage, const std::string& name);

// Groups are named as in metrics: by the family's root as it is now, cut to `label_bytes`. Reads the command line of
// each root if a rule needs it.
FamilySearch FindByGroup(const procfs::Root& root, const memory::Lineage& lineage, const std::string& group,
                         collectors::GroupRules& rules, size_t label_bytes);

}  // namespace cow::explain
