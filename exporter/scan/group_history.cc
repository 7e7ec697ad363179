#include "exporter/scan/group_history.h"

#include <algorithm>
#include <string_view>
#include <utility>

namespace cow::exporter {
namespace {

// Sums the metric `name` by group.
std::map<std::string, double> SumByGroup(const std::vector<PreparedFamily>& families, std::string_view name) {
  std::map<std::string, double> sums;
  for (const PreparedFamily& prepared : families) {
    if (prepared.family.name != name) continue;
    for (const prometheus::ClientMetric& metric : prepared.family.metric) {
      for (const auto& label : metric.label) {
        const bool is_counter = prepared.family.type == prometheus::MetricType::Counter;
        if (label.name == "group") sums[label.value] += is_counter ? metric.counter.value : metric.gauge.value;
      }
    }
  }
  return sums;
}

}  // namespace

void GroupHistory::Add(Clock::time_point time, const std::vector<PreparedFamily>& families) {
  std::map<std::string, GroupSummary> groups;
  for (const auto& [group, processes] : SumByGroup(families, "cow_processes")) groups[group].processes = processes;
  for (const auto& [group, bytes] : SumByGroup(families, "cow_exposure_bytes")) groups[group].exposure_bytes = bytes;
  Breaks now{time, SumByGroup(families, "cow_breaks_total")};

  const std::lock_guard lock(mutex_);
  // Of values closer than kDistance keep only the last.
  const size_t count = breaks_.size();
  if (count >= 2 && breaks_[count - 1].time - breaks_[count - 2].time < kDistance) breaks_.pop_back();
  breaks_.push_back(std::move(now));
  while (breaks_.size() > 2 && breaks_.front().time < time - kWindow) breaks_.pop_front();
  groups_.clear();
  for (auto& [group, summary] : groups) {
    if (summary.processes.value_or(0) == 0) continue;  // the group ended
    summary.group = group;
    summary.breaks_per_second = Rate(group);
    groups_.push_back(std::move(summary));
  }
  std::stable_sort(groups_.begin(), groups_.end(), [](const GroupSummary& a, const GroupSummary& b) {
    return a.exposure_bytes.value_or(-1) > b.exposure_bytes.value_or(-1);
  });
}

std::vector<GroupSummary> GroupHistory::Groups() const {
  const std::lock_guard lock(mutex_);
  return groups_;
}

std::optional<double> GroupHistory::Rate(const std::string& group) const {
  const Breaks& last = breaks_.back();
  const auto latest = last.pages.find(group);
  if (latest == last.pages.end()) return std::nullopt;
  for (const Breaks& earlier : breaks_) {
    const auto before = earlier.pages.find(group);
    if (before == earlier.pages.end()) continue;
    const std::chrono::duration<double> passed = last.time - earlier.time;
    if (passed.count() <= 0) return std::nullopt;
    return std::max(latest->second - before->second, 0.0) / passed.count();
  }
  return std::nullopt;
}

}  // namespace cow::exporter
