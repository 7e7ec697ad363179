// Watches a family for some time and finds out which code breaks its sharing. Looks at the ledger at the start, after
// forks, every few seconds, and at the end; records all page faults in between.
//
// Without page frames (no CAP_SYS_ADMIN) there is no ledger: the report counts the faults by code and judges nothing.
//
// Costs the target what a FaultRecorder and the looks of `explain --watch` cost. One thread.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <tl/expected.hpp>

#include "collectors/explain/failure.h"
#include "collectors/faults/fault_recorder.h"
#include "collectors/procfs/root.h"
#include "collectors/symbols/symbolizer.h"
#include "collectors/writers/report.h"

namespace cow::writers {

struct WatchOptions {
  pid_t pid = 0;
  std::chrono::milliseconds time{10'000};
  faults::FaultRecorder::Options recorder;
  // Waits for up to the time given; returns true once the watch shall end early. Also asked between windows, with 0.
  std::function<bool(std::chrono::milliseconds)> ends_within;
  // Called once the first look is complete, with the number of members.
  std::function<void(size_t)> on_begin = [](size_t) {};
};

// `symbolizer` must have been started before.
tl::expected<Report, explain::Failure> WatchWriters(const procfs::Root& root, symbols::Symbolizer& symbolizer,
                                                    const WatchOptions& options);

}  // namespace cow::writers
