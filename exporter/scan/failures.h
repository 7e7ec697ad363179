// Logs and counts failures of the scanning thread. Logs each reason once per hour until a pass completes.
//
// One thread at a time.
#pragma once

#include <string_view>

#include "exporter/log/log.h"
#include "exporter/log/log_once.h"
#include "exporter/scan/statistics.h"

namespace cow::exporter {

class ScanFailures {
 public:
  // `log` must outlive this object.
  explicit ScanFailures(Log& log) : log_(log) {}

  // Records the exception that is being handled. `what` says which step failed.
  void RecordException(const char* what) noexcept;
  void Record(ScanFailure reason, const char* what, std::string_view error) noexcept;
  // A pass completed: logs the recovery after a failure.
  void RecordSuccess();

  [[nodiscard]] const ScanFailureCounts& Counts() const { return counts_; }

 private:
  Log& log_;
  LogOnce logged_;
  ScanFailureCounts counts_{};
  bool failing_ = false;  // a failure was recorded since the last completed pass
};

}  // namespace cow::exporter
