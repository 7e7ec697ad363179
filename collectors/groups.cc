#include "collectors/groups.h"

#include <algorithm>

namespace cow::collectors {

std::map<std::string, Group>::iterator Groups::Find(const std::string& name,
                                                    std::chrono::steady_clock::time_point now) {
  auto found = groups_.find(name);
  const auto exported = [](const auto& item) { return item.second.exported && item.first != kOverflow; };
  if (found == groups_.end() || !found->second.exported) {
    const auto in_use = static_cast<size_t>(std::count_if(groups_.begin(), groups_.end(), exported));
    if (name != kOverflow && in_use >= max_groups_) {
      turned_away_[name] = 1;
      return Find(kOverflow, now);
    }
    if (found == groups_.end()) {
      found = groups_.emplace(name, Group()).first;
      found->second.counters.assign(counters_, 0);
    }
    found->second.number = next_number_++;
  }
  found->second.exported = true;
  found->second.last_seen = now;
  return found;
}

void Groups::SetLimit(size_t max_groups, std::chrono::steady_clock::time_point now) {
  max_groups_ = max_groups;
  std::vector<Group*> exported;
  for (auto& [name, group] : groups_) {
    if (group.exported && name != kOverflow) exported.push_back(&group);
  }
  std::sort(exported.begin(), exported.end(), [](const Group* a, const Group* b) { return a->number < b->number; });
  for (size_t i = max_groups; i < exported.size(); ++i) exported[i]->exported = false;
  if (exported.size() > max_groups) Find(kOverflow, now);
}

void Groups::GrowTo(size_t counters) {
  counters_ = std::max(counters_, counters);
  for (auto& [name, group] : groups_) group.counters.resize(counters_, 0);
}

void Groups::EndPass(std::chrono::steady_clock::time_point pass_begin, std::chrono::steady_clock::time_point now) {
  overflowed_ = turned_away_.size();
  size_t ended = 0;
  for (auto& [name, group] : groups_) {
    if (group.last_seen < pass_begin && now - group.last_seen > kGrace) group.exported = false;
    ended += group.exported ? 0 : 1;
  }
  while (ended > max_groups_) {
    auto oldest = groups_.end();
    for (auto item = groups_.begin(); item != groups_.end(); ++item) {
      if (item->second.exported) continue;
      if (oldest == groups_.end() || item->second.last_seen < oldest->second.last_seen) oldest = item;
    }
    groups_.erase(oldest);
    --ended;
  }
}

}  // namespace cow::collectors
