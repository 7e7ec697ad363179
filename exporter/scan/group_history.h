// Summarizes the groups for the landing page: processes, exposure and the rate of breaks. Keeps the values of some
// passes to compute the rate.
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
#include "exporter/snapshot/snapshot.h"

namespace cow::exporter {

class GroupHistory {
 public:
  using Clock = std::chrono::steady_clock;

  // Adds the values of a snapshot. Call it in the order of time.
  void Add(Clock::time_point time, const std::vector<PreparedFamily>& families);
  // The groups with processes at the last Add, largest exposure first.
  [[nodiscard]] std::vector<GroupSummary> Groups() const;

 private:
  static constexpr std::chrono::seconds kWindow{60};
  static constexpr std::chrono::seconds kDistance{5};  // between kept values

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
