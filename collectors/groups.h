// The groups: who is in which, and the counters that outlive processes.
//
// A family belongs, whole, to the group that the rules find by its root; it keeps it when the root exits, and is judged
// anew when the root execs, renames itself or changes its user, and by new rules. Groups beyond the limit are added up
// in "_other", first seen first served. A group that ended is exported for five more minutes; its counters are kept for
// as many ended groups as the limit allows, in case it comes back. Not thread-safe.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace cow::collectors {

struct Group {
  std::vector<uint64_t> counters;
  uint64_t number = 0;  // in the order in which groups began to be exported
  std::chrono::steady_clock::time_point last_seen;
  bool exported = true;
  bool looked_at = false;  // the first look at a process of it has shown something, or that nothing can be seen
};

class Groups {
 public:
  static constexpr const char* kOverflow = "_other";
  static constexpr auto kGrace = std::chrono::minutes(5);

  Groups(size_t max_groups, size_t counters) : max_groups_(max_groups), counters_(counters) {}

  // The group of that name, or the overflow group where there is no room for another.
  std::map<std::string, Group>::iterator Find(const std::string& name, std::chrono::steady_clock::time_point now);

  // The limit from now on: of the groups that are exported the first ones stay, the others end without grace and are
  // added up in the overflow group.
  void SetLimit(size_t max_groups, std::chrono::steady_clock::time_point now);
  // Every group has so many counters at least; new ones are 0.
  void GrowTo(size_t counters);

  // After a pass: groups not found since `pass_begin` end their grace, long ended ones are forgotten beyond the limit.
  void EndPass(std::chrono::steady_clock::time_point pass_begin, std::chrono::steady_clock::time_point now);

  const std::map<std::string, Group>& all() const { return groups_; }
  // Names that were turned away in the last pass.
  size_t overflowed() const { return overflowed_; }
  void BeginPass() { turned_away_.clear(); }

 private:
  size_t max_groups_;
  size_t counters_;
  std::map<std::string, Group> groups_;
  std::map<std::string, int> turned_away_;
  size_t overflowed_ = 0;
  uint64_t next_number_ = 0;
};

}  // namespace cow::collectors
