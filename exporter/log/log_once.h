// Limits repeated log lines: admits each reason once per hour and at most kMaxReasons different ones, then one final
// text that says that further ones are suppressed.
//
// Any thread.
#pragma once

#include <chrono>
#include <cstddef>
#include <mutex>
#include <optional>
#include <set>
#include <string>

namespace cow::exporter {

class LogOnce {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr size_t kMaxReasons = 256;
  static constexpr std::chrono::hours kPeriod{1};

  // Returns the text to log, or nothing if `reason` is suppressed.
  std::optional<std::string> Admit(const std::string& reason, Clock::time_point now = Clock::now()) {
    const std::lock_guard lock(mutex_);
    if (now - since_ >= kPeriod) logged_.clear();
    if (logged_.empty()) since_ = now;
    if (logged_.size() > kMaxReasons || !logged_.insert(reason).second) return std::nullopt;
    if (logged_.size() > kMaxReasons)
      return "too many different reasons: further ones are suppressed for up to an hour";
    return reason;
  }
  // Admits every reason again.
  void Reset() {
    const std::lock_guard lock(mutex_);
    logged_.clear();
  }

 private:
  std::mutex mutex_;
  std::set<std::string> logged_;
  Clock::time_point since_;  // time of the oldest entry of logged_
};

}  // namespace cow::exporter
