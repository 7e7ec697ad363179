// Chooses the group of a family by its root process: the first matching rule names the group. A rule ANDs its keys and
// ORs the elements of a key, but ANDs those of `cmdline`, as process-exporter does. A key that can't be read does not
// match.
//
// A name may be a template that inserts text chosen by processes. Callers must pass group names through LabelValue. Not
// thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "collectors/base/group_rule.h"
#include "collectors/procfs/cgroup.h"

namespace cow::collectors {

// Caches the names of users from this host's user database (getpwuid_r).
class UserNames {
 public:
  static constexpr size_t kMaxKept = 4096;  // a full cache is emptied
  using Find = std::function<std::optional<std::string>(uint32_t uid)>;

  explicit UserNames(Find find) : find_(std::move(find)) {}

  // Returns the user's name, or the number if there is no name. Valid until the next call.
  const std::string& NameOf(uint32_t uid);

 private:
  Find find_;
  std::unordered_map<uint32_t, std::string> names_;
};

// Asks the user database, which may use the network.
std::optional<std::string> FindUserName(uint32_t uid);

// The properties of a process that rules can test.
struct GroupSubject {
  std::string comm;
  std::string exe;  // the kernel's path of the program; empty if it can't be read
  uint32_t uid = 0;
  std::string cgroup_path;
  procfs::CgroupNames names;
  // Returns the arguments joined by blanks; empty if they can't be read. Called at most once, and only if a rule needs
  // them.
  std::function<std::optional<std::string>()> read_command_line;
};

struct GroupVerdict {
  std::optional<std::string> name;  // empty: the family belongs to no group
  bool named = false;               // a rule chose the name, not the default
  std::string unread_key;           // a key that a rule needed and that could not be read; empty: none
};

class GroupRules {
 public:
  static constexpr const char* kUnnamed = "_unnamed";  // replaces an empty name

  // Throws std::invalid_argument if a regular expression does not compile.
  explicit GroupRules(const GroupOptions& options, UserNames::Find find_user = &FindUserName);
  ~GroupRules();
  GroupRules(GroupRules&&) noexcept;
  GroupRules& operator=(GroupRules&&) noexcept;

  GroupVerdict Judge(const GroupSubject& subject);

  // The distinct names without variables, in the order of the rules.
  const std::vector<std::string>& fixed_names() const { return fixed_names_; }
  // Returns true if a rule or a name needs the user.
  bool AskForUser() const { return ask_for_user_; }

 private:
  struct Rule;
  class Judgement;

  std::vector<Rule> rules_;
  std::optional<GroupName> default_name_;
  std::vector<std::string> fixed_names_;
  bool ask_for_user_ = false;
  UserNames users_;
};

}  // namespace cow::collectors
