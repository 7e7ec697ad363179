// The processes of cow_demo: the parent writes, forks and replaces workers, and writes the truth file.
#pragma once

#include "deploy/demo/arena.h"
#include "deploy/demo/arguments.h"

namespace cow::demo {

// Ends RunParent. Async-signal-safe.
void RequestStop();

// Runs the parent until the time is over or RequestStop was called. Ends all workers and prints the counts.
// `truth_file`: a descriptor; -1: none.
void RunParent(const Arena& arena, const Settings& settings, int truth_file);

}  // namespace cow::demo
