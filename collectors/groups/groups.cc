#include "collectors/groups/groups.h"

#include <algorithm>
#include <tuple>

#include "collectors/base/utf8.h"

namespace cow::collectors {

std::string GroupLabel(std::string_view name, size_t max_bytes) {
  std::string label = LabelValue(name, max_bytes);
  if (label == Groups::kOverflow) label += '_';
  return label;
}

void Groups::BeginPass(Time now) {
  now_ = now;
  ++pass_;
}

Group& Groups::Touch(const std::string& name) {
  const auto [item, is_new] = groups_.try_emplace(name);
  Group& group = item->second;
  if (is_new) {
    group.counters.assign(counters_, 0);
    group.first_claim = pass_;
  }
  if (is_new || (!group.exported && group.claimed + 1 < pass_)) group.number = next_number_++;
  group.claimed = pass_;
  group.last_seen = now_;
  return group;
}

void Groups::Claim(const std::string& name, GroupClaim claim) {
  const bool again = groups_.contains(name) && groups_.at(name).claimed == pass_;
  Group& group = Touch(name);
  group.named = claim.named || (again && group.named);
  group.had_family = group.had_family || claim.has_family;
}

void Groups::Admit() {
  std::vector<Group*> claims;
  std::vector<Group*> ended;  // ended groups that may stay exported for some time
  for (auto& [name, group] : groups_) {
    if (name == kOverflow) continue;
    if (group.claimed == pass_) {
      group.awaits_second_pass = !group.Preferred() && group.first_claim == pass_ && pass_ != 1;
      if (!group.awaits_second_pass) claims.push_back(&group);
    } else if (group.exported) {
      group.exported = group.had_family && now_ - group.last_seen <= kGrace;
      if (group.exported) ended.push_back(&group);
    }
  }
  std::sort(claims.begin(), claims.end(), [](const Group* a, const Group* b) {
    return std::tuple(!a->Preferred(), !a->exported, a->number) < std::tuple(!b->Preferred(), !b->exported, b->number);
  });
  std::sort(ended.begin(), ended.end(), [](const Group* a, const Group* b) { return a->last_seen > b->last_seen; });
  for (size_t i = 0; i < claims.size(); ++i) claims[i]->exported = i < max_groups_;
  const size_t admitted = std::min(claims.size(), max_groups_);
  for (size_t i = 0; i < ended.size(); ++i) ended[i]->exported = admitted + i < max_groups_;
  overflowed_ = claims.size() - admitted;
  if (overflowed_ != 0) Touch(kOverflow);
  if (const auto overflow = groups_.find(kOverflow); overflow != groups_.end()) {
    overflow->second.exported = now_ - overflow->second.last_seen <= kGrace;
  }
  Forget();
}

Groups::Map::iterator Groups::Find(const std::string& name) {
  const auto found = name == kOverflow ? groups_.end() : groups_.find(name);
  if (found != groups_.end() && (found->second.exported || found->second.awaits_second_pass)) return found;
  Touch(kOverflow).exported = true;
  return groups_.find(kOverflow);
}

void Groups::SetLimit(size_t max_groups) {
  const bool lower = max_groups < max_groups_;
  max_groups_ = max_groups;
  if (lower) Admit();
}

void Groups::GrowTo(size_t counters) {
  counters_ = std::max(counters_, counters);
  for (auto& [name, group] : groups_) group.counters.resize(counters_, 0);
}

// Drops the ended groups beyond the limit, the oldest first. Also drops ended groups that were never exported, because
// they have no counters to keep.
void Groups::Forget() {
  std::erase_if(groups_,
                [this](const auto& item) { return item.second.awaits_second_pass && item.second.claimed != pass_; });
  std::vector<Map::iterator> ended;
  for (auto item = groups_.begin(); item != groups_.end(); ++item) {
    if (!item->second.exported && item->second.claimed != pass_) ended.push_back(item);
  }
  if (ended.size() <= max_groups_) return;
  std::sort(ended.begin(), ended.end(),
            [](const auto& a, const auto& b) { return a->second.last_seen > b->second.last_seen; });
  for (size_t i = max_groups_; i < ended.size(); ++i) groups_.erase(ended[i]);
}

}  // namespace cow::collectors
