// Finds out at start-up what this process may read of processes that are not its own. Does not ask for capabilities or
// the kernel's version: it reads files of a child that no other process may inspect by its user alone (PR_SET_DUMPABLE
// is 0), which takes the rights that another user's process takes.
//
// Costs less than a millisecond and one short-lived child. Never fails: if the child cannot be made, all is false. Call
// it from any thread. A security module may still deny some processes.
#pragma once

#include "collectors/procfs/root.h"

namespace cow::memory {

struct ForeignAccess {
  bool page_tables = false;  // maps, auxv and pagemap
  bool details = false;      // exe, and the layout in stat; the right to read them includes kcmp
};

// All true for a tree that is not procfs.
ForeignAccess ProbeForeignAccess(const procfs::Root& root);

}  // namespace cow::memory
