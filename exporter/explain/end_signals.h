// Waits for the signals that end a command: SIGTERM and SIGINT. Blocks them for the whole process, so make it before
// other threads start. The making thread only.
#pragma once

#include <chrono>
#include <csignal>

namespace cow::exporter {

class EndSignals {
 public:
  EndSignals();

  // Waits up to `time`. Returns true if a signal came.
  bool CameWithin(std::chrono::milliseconds time) const;

 private:
  sigset_t signals_{};
};

}  // namespace cow::exporter
