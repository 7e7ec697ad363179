// Whether two processes are one address space (vfork, CLONE_VM): the kcmp system call.
#pragma once

#include <optional>

#include "collectors/procfs/root.h"

namespace cow::procfs {

// Needs ptrace read permission on both. Empty where the kernel does not answer, or where the pids of `root` are not
// those of this process' own pid namespace (root/self is not this process).
std::optional<bool> SameMemory(const Root& root, TaskId a, TaskId b);

}  // namespace cow::procfs
