// How processes are put into groups. Plain values: the configuration fills them in, the groups apply them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace cow {

// Memory that one regular expression may take, as RE2 counts it (max_mem).
inline constexpr int64_t kExpressionMemoryBytes = int64_t{512} << 10U;

struct GroupNamePart {
  enum class Kind { kText, kComm, kExeBase, kUsername, kUnit, kContainerId, kPodUid, kMatch };
  Kind kind = Kind::kText;
  std::string text;  // kText: the text; kMatch: the name of a capture group of cmdline

  bool operator==(const GroupNamePart&) const = default;
};
using GroupName = std::vector<GroupNamePart>;

// Selects the processes of a group. Keys are ANDed, entries of a list ORed, entries of `cmdline` ANDed. An empty list
// matches every process.
struct GroupRule {
  GroupName name;
  std::vector<std::string> comm;          // whole names
  std::vector<std::string> exe;           // absolute paths or base names
  std::vector<std::string> cmdline;       // RE2 on the arguments joined by blanks
  std::vector<std::string> user;          // names or numbers
  std::vector<std::string> cgroup;        // RE2 on the cgroup path
  std::vector<std::string> unit;          // whole names
  std::vector<std::string> container_id;  // prefixes

  bool operator==(const GroupRule&) const = default;
};

struct GroupOptions {
  std::vector<GroupRule> rules;
  std::optional<GroupName> default_name = GroupName{{GroupNamePart::Kind::kComm, ""}};  // empty: drop other processes

  bool operator==(const GroupOptions&) const = default;
};

}  // namespace cow
