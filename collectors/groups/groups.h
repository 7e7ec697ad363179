// Keeps the groups: which ones are exported, and their counters, which outlive processes.
//
// A whole family belongs to the group that the rules choose by its root. The family keeps the group when the root
// exits. The rules are applied again when they change, or when the root execs, renames itself or changes its user.
//
// A pass claims the groups of all families and then admits as many as the limit allows. Groups that a rule names, and
// groups that have or had a family, come first; then groups that are already exported; then older groups. The group
// "_other" sums up the rest. A group of single processes is exported from its second pass on, or at once in the
// exporter's first pass.
//
// A group that had a family stays exported for five minutes after its end while there is room. Other groups end at
// once. Counters of ended groups are kept, for as many groups as the limit allows, in case the groups come back. Not
// thread-safe.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace cow::collectors {

struct Group {
  std::vector<uint64_t> counters;
  uint64_t number = 0;       // groups claimed earlier have lower numbers
  uint64_t claimed = 0;      // the last pass that claimed it
  uint64_t first_claim = 0;  // the first pass that claimed it
  std::chrono::steady_clock::time_point last_seen;
  bool named = false;       // a rule names it
  bool had_family = false;  // it has or had a family of two or more processes
  bool exported = false;
  bool awaits_second_pass = false;  // neither exported yet nor part of "_other"
  bool looked_at = false;           // a process of the group was read, or proved to be unreadable

  bool Preferred() const { return named || had_family; }
};

// Facts about a group before the scan.
struct GroupClaim {
  bool named = false;       // a rule names it
  bool has_family = false;  // one of its families has two processes or more
};

// Returns the value of the label `group` for a name that rules chose: valid UTF-8 of up to `max_bytes`, and never the
// name of the overflow group.
std::string GroupLabel(std::string_view name, size_t max_bytes);

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
  // Returns the group of that name, or the overflow group if there is no room for it.
  Map::iterator Find(const std::string& name);

  // Sets the limit. A lower limit moves the groups of the last pass that no longer fit to the overflow group at once. A
  // higher limit takes effect with the next pass.
  void SetLimit(size_t max_groups);
  // Grows the counters of every group to at least `counters`. New counters are 0.
  void GrowTo(size_t counters);

  const Map& all() const { return groups_; }
  // The number of groups that did not fit in the last pass.
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
