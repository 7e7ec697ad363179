// The groups as a person wants to see them at a glance: processes, exposure, and how fast sharing is being broken,
// which takes the values of some passes to know.
//
// Any thread.
#pragma once

#include <chrono>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "exporter/metrics_text/text_format.h"

namespace cow::exporter {

// What is not known has no value.
struct GroupSummary {
  std::string group;
  std::optional<double> processes;
  std::optional<double> exposure_bytes;
  std::optional<double> breaks_per_second;  // pages, over the last minute; over less where less is known
};

class GroupHistory {
 public:
  using Clock = std::chrono::steady_clock;

  // The values of a snapshot, in the order of time.
  void Add(Clock::time_point time, const std::vector<PreparedFamily>& families);
  // Those that have processes, as of the last Add; the largest exposure first.
  [[nodiscard]] std::vector<GroupSummary> Groups() const;

 private:
  static constexpr std::chrono::seconds kWindow{60};
  static constexpr std::chrono::seconds kDistance{5};  // between those that are kept

  struct Breaks {
    Clock::time_point time;
    std::map<std::string, double> pages;  // by group
  };

  [[nodiscard]] std::optional<double> Rate(const std::string& group) const;

  mutable std::mutex mutex_;
  std::vector<GroupSummary> groups_;
  std::deque<Breaks> breaks_;  // oldest first
};

}  // namespace cow::exporter
