// Orders processes by their address spaces, with the kcmp system call. Any thread.
#pragma once

#include <compare>
#include <optional>

#include "collectors/procfs/root.h"

namespace cow::procfs {

// Returns equal if both processes share one address space (vfork, CLONE_VM). Otherwise the order is arbitrary and stays
// the same while both address spaces live. Needs ptrace read permission on both. Empty if the kernel does not answer,
// or if the pids of `root` belong to another PID namespace (root/self is not this process).
std::optional<std::strong_ordering> CompareMemory(const Root& root, TaskId a, TaskId b);

}  // namespace cow::procfs
