#include "collectors/writers/top_writers.h"

#include <algorithm>
#include <set>
#include <utility>

namespace cow::writers {
namespace {

// What is left of a score in the next interval with samples.
constexpr double kDecay = 0.9;
// Writers beyond the top of which scores are kept.
constexpr size_t kMostEntries = 1000;

}  // namespace

void TopWriters::Add(const std::map<Key, uint64_t>& samples, size_t top, std::chrono::milliseconds hold, Time now) {
  if (!samples.empty()) {
    for (auto& [key, entry] : entries_) entry.score *= kDecay;
  }
  for (const auto& [key, count] : samples) entries_[key].score += static_cast<double>(count);
  std::vector<std::pair<double, const Key*>> ranked;
  ranked.reserve(entries_.size());
  for (const auto& [key, entry] : entries_) ranked.emplace_back(entry.score, &key);
  std::sort(ranked.begin(), ranked.end(), [](const auto& a, const auto& b) {
    return a.first != b.first ? a.first > b.first : *a.second < *b.second;
  });
  for (size_t i = 0; i < std::min(top, ranked.size()); ++i) {
    Entry& entry = entries_.at(*ranked[i].second);
    entry.in_top_at = now;
    entry.has_series = true;
  }
  for (const auto& [key, count] : samples) {
    Entry& entry = entries_.at(key);
    if (entry.has_series && entry.in_top_at == now) {
      entry.samples += count;
    } else {
      other_[key.side] += count;
    }
  }
  std::set<Key> forgotten;
  for (size_t i = 0; i < ranked.size(); ++i) {
    Entry& entry = entries_.at(*ranked[i].second);
    if (entry.has_series && entry.in_top_at != now && now - entry.in_top_at >= hold) {
      entry.has_series = false;
      entry.samples = 0;
    }
    if (!entry.has_series && i >= kMostEntries) forgotten.insert(*ranked[i].second);
  }
  for (const Key& key : forgotten) entries_.erase(key);
}

std::vector<TopWriters::Series> TopWriters::Published() const {
  std::vector<Series> series;
  for (const auto& [key, entry] : entries_) {
    if (entry.has_series && entry.samples > 0) series.push_back({key, entry.samples});
  }
  for (const auto& [side, samples] : other_) series.push_back({{side, "", std::string(kOther)}, samples});
  return series;
}

}  // namespace cow::writers
