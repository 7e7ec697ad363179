// What was told in the log and is not to be told again: a reason that comes back with each pass, request or connection
// is one line. So many at most, whatever clients may think of: all beyond that are not told. Any thread.
#pragma once

#include <cstddef>
#include <mutex>
#include <set>
#include <string>

namespace cow::exporter {

class ToldOnce {
 public:
  static constexpr size_t kMaxReasons = 256;

  // True once for each reason.
  bool IsNew(const std::string& reason) {
    const std::lock_guard lock(mutex_);
    return told_.size() < kMaxReasons && told_.insert(reason).second;
  }
  // What made the reasons is over: each is told again.
  void Forget() {
    const std::lock_guard lock(mutex_);
    told_.clear();
  }

 private:
  std::mutex mutex_;
  std::set<std::string> told_;
};

}  // namespace cow::exporter
