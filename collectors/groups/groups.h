// The groups: who is in which, and the counters that outlive processes.
//
// A family belongs, whole, to the group that the rules find by its root; it keeps it when the root exits, and is judged
// anew when the root execs, renames itself or changes its user, and by new rules.
//
// A pass claims the groups of all families, then admits as many as the limit allows. Groups that a rule names and
// groups that have or had a family come first, then groups that are exported already, then older ones. What is turned
// away is added up in "_other". A group of single processes is exported from its second pass on; those of the
// exporter's first pass are exported at once.
//
// A group that had a family is exported for five more minutes after its end, as long as there is room for it; another
// group ends at once. Counters of ended groups are kept for as many groups as the limit allows, in case they come back.
// Not thread-safe.
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
  uint64_t number = 0;       // groups that were claimed earlier have lower numbers
  uint64_t claimed = 0;      // the last pass that claimed it
  uint64_t first_claim = 0;  // the first pass that claimed it
  std::chrono::steady_clock::time_point last_seen;
  bool named = false;       // by a rule
  bool had_family = false;  // two processes or more, in this pass or before
  bool exported = false;
  bool awaits_second_pass = false;  // it is not exported yet, and not part of "_other" either
  bool looked_at = false;  // the first look at a process of it has shown something, or that nothing can be seen

  bool Preferred() const { return named || had_family; }
};

// What a pass knows of a group before it scans.
struct GroupClaim {
  bool named = false;       // a rule names it
  bool has_family = false;  // one of its families has two processes or more
};

class Groups {
 public:
  using Time = std::chrono::steady_clock::time_point;
  using Map = std::map<std::string, Group>;

  static constexpr const char* kOverflow = "_other";
  static constexpr auto kGrace = std::chrono::minutes(5);

  Groups(size_t max_groups, size_t counters) : max_groups_(max_groups), counters_(counters) {}

  // A pass calls BeginPass, then Claim for every family, then Admit, then Find for every family.
  void BeginPass(Time now);
  void Claim(const std::string& name, GroupClaim claim);
  void Admit();
  // The group of that name, or the overflow group where there is no room for it.
  Map::iterator Find(const std::string& name);

  // The limit from now on. Under a lower one, the groups of the last pass that find no room are part of the overflow
  // group at once; a higher one counts from the next pass on.
  void SetLimit(size_t max_groups);
  // Every group has so many counters at least; new ones are 0.
  void GrowTo(size_t counters);

  const Map& all() const { return groups_; }
  // Names that found no room in the last pass.
  size_t overflowed() const { return overflowed_; }

 private:
  Group& Touch(const std::string& name);
  void Forget();

  size_t max_groups_;
  size_t counters_;
  Map groups_;
  Time now_;
  uint64_t pass_ = 0;
  size_t overflowed_ = 0;
  uint64_t next_number_ = 0;
};

}  // namespace cow::collectors
