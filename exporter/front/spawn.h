// Executes this program anew in a new process, with a given list of descriptors. Call it while the process has one
// thread.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <span>
#include <string>
#include <vector>

namespace cow::exporter {

// The first descriptor after the standard streams.
inline constexpr int kFirstDescriptor = 3;

// Forks and executes `program` with `arguments`. Descriptor i of `descriptors` becomes kFirstDescriptor + i; the child
// has no others but the standard streams. `program` must be above all of these numbers. Throws std::system_error.
pid_t Spawn(int program, const std::vector<std::string>& arguments, std::span<const int> descriptors);

// Waits for the process and returns its wait status.
int WaitFor(pid_t pid);

// Kills the process unless it ends by itself within `patience`. Returns its wait status.
int End(pid_t pid, std::chrono::milliseconds patience);

}  // namespace cow::exporter
