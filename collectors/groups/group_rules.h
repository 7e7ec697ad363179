// Which group a family belongs to, by its root: the first rule that matches names it. Within a rule the keys that are
// given are ANDed, the elements of a key ORed, those of `cmdline` ANDed, as in process-exporter. A key that could not
// be read does not match.
//
// Names may be templates. What processes call themselves goes into them, so they are made label values by who uses
// them. Not thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "collectors/groups/user_names.h"
#include "collectors/procfs/cgroup.h"

namespace cow::collectors {

struct GroupNamePart {
  enum class Kind { kText, kComm, kExeBase, kUsername, kUnit, kContainerId, kPodUid, kMatch };
  Kind kind = Kind::kText;
  std::string text;  // of kText itself, of kMatch the name of a capture group of cmdline

  bool operator==(const GroupNamePart&) const = default;
};
using GroupName = std::vector<GroupNamePart>;

// An empty list asks for nothing.
struct GroupRule {
  GroupName name;
  std::vector<std::string> comm;          // whole names
  std::vector<std::string> exe;           // absolute paths or base names
  std::vector<std::string> cmdline;       // RE2, on the arguments joined by blanks
  std::vector<std::string> user;          // names or numbers
  std::vector<std::string> cgroup;        // RE2, on the cgroup's path
  std::vector<std::string> unit;          // whole names
  std::vector<std::string> container_id;  // prefixes

  bool operator==(const GroupRule&) const = default;
};

struct GroupOptions {
  std::vector<GroupRule> rules;
  std::optional<GroupName> default_name = GroupName{{GroupNamePart::Kind::kComm, ""}};  // empty: others are left out

  bool operator==(const GroupOptions&) const = default;
};

// What a rule may ask of a process.
struct GroupSubject {
  std::string comm;
  std::string exe;  // as the kernel names it; empty where it could not be read
  uint32_t uid = 0;
  std::string cgroup_path;
  procfs::CgroupNames names;
  // The arguments joined by blanks, empty where they can't be read; asked at most once, and only if a rule needs it.
  std::function<std::optional<std::string>()> read_command_line;
};

struct GroupVerdict {
  std::optional<std::string> name;  // empty: left out
  bool named = false;               // by a rule, not by the default
  std::string unread_key;           // that a rule asked for and that could not be read; empty: none
};

class GroupRules {
 public:
  static constexpr const char* kUnnamed = "_unnamed";  // a name that comes out empty

  // Throws std::invalid_argument on a regular expression that does not compile.
  explicit GroupRules(const GroupOptions& options, UserNames::Find find_user = &FindUserName);
  ~GroupRules();
  GroupRules(GroupRules&&) noexcept;
  GroupRules& operator=(GroupRules&&) noexcept;

  GroupVerdict Judge(const GroupSubject& subject);

  // Of groups that are named without a variable, in the rules' order, each once.
  const std::vector<std::string>& fixed_names() const { return fixed_names_; }
  // Whether some verdict depends on the user.
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
