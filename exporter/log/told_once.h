// What was told in the log and is not to be told again: a reason that comes back with each pass, request or connection
// is one line in an hour. So many at most, whatever clients may think of: one line says that no others are told.
// Any thread.
#pragma once

#include <chrono>
#include <cstddef>
#include <mutex>
#include <optional>
#include <set>
#include <string>

namespace cow::exporter {

class ToldOnce {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr size_t kMaxReasons = 256;
  static constexpr std::chrono::hours kMemory{1};

  // What to tell, if anything: a reason that is new, or once that there are too many.
  std::optional<std::string> ToTell(const std::string& reason, Clock::time_point now = Clock::now()) {
    const std::lock_guard lock(mutex_);
    if (now - since_ >= kMemory) told_.clear();
    if (told_.empty()) since_ = now;
    if (told_.size() > kMaxReasons || told_.contains(reason)) return std::nullopt;
    const bool is_last = told_.size() == kMaxReasons;
    told_.insert(reason);
    if (is_last) return "too many reasons: new ones are not told for up to an hour";
    return reason;
  }
  // What made the reasons is over: each is told again.
  void Forget() {
    const std::lock_guard lock(mutex_);
    told_.clear();
  }

 private:
  std::mutex mutex_;
  std::set<std::string> told_;
  Clock::time_point since_;  // when the first of them was told
};

}  // namespace cow::exporter
