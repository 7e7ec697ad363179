// The order of processes by their address spaces: the kcmp system call.
#pragma once

#include <compare>
#include <optional>

#include "collectors/procfs/root.h"

namespace cow::procfs {

// Equal if both are one address space (vfork, CLONE_VM); else the order is arbitrary, but the same for as long as both
// address spaces live. Needs ptrace read permission on both. Empty where the kernel does not answer, or where the pids
// of `root` are not those of this process' own pid namespace (root/self is not this process).
std::optional<std::strong_ordering> CompareMemory(const Root& root, TaskId a, TaskId b);

}  // namespace cow::procfs
