#include "config/groups.h"

#include <re2/re2.h>

#include <algorithm>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

#include "config/hint.h"
#include "config/name_template.h"

namespace cow::config {
namespace {

constexpr size_t kMaxCommBytes = 15;  // the kernel truncates longer names

using Names = std::vector<std::string>;
// What is wrong with an entry of a list, if anything.
using Problem = std::optional<std::string>;

Problem ProblemOfComm(const std::string& comm) {
  if (comm.size() <= kMaxCommBytes) return std::nullopt;
  return Quoted(comm) + " can't match, a process' name has at most 15 bytes; did you mean " +
         Quoted(comm.substr(0, kMaxCommBytes)) + "?";
}

Problem ProblemOfExe(const std::string& exe) {
  const bool is_path = exe.find('/') != std::string::npos;
  if (!is_path || (exe.front() == '/' && exe.back() != '/')) return std::nullopt;
  return Quoted(exe) + " can't match: expected an absolute path or a base name";
}

Problem ProblemOfContainerId(const std::string& id) {
  constexpr size_t kMaxDigits = 64;
  const bool is_hexadecimal =
      std::all_of(id.begin(), id.end(), [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
  if (is_hexadecimal && id.size() <= kMaxDigits) return std::nullopt;
  return Quoted(id) + " can't match: expected up to 64 digits of 0-9a-f";
}

Problem NoProblem(const std::string& /*text*/) { return std::nullopt; }

// Reads one entry of `groups`.
class EntryReader {
 public:
  EntryReader(Checker& checker, GroupRule& group) : checker_(checker), group_(group) {}

  void Read(const YAML::Node& entry, const std::string& path) {
    checker_.ReadMap(
        entry, path,
        {NameKey(), List("comm", "names", &ProblemOfComm, group_.comm),
         List("exe", "paths or base names", &ProblemOfExe, group_.exe),
         Expressions("cmdline", group_.cmdline, &captured_), List("user", "names or numbers", &NoProblem, group_.user),
         Expressions("cgroup", group_.cgroup, nullptr), List("unit", "names of units", &NoProblem, group_.unit),
         List("container_id", "prefixes", &ProblemOfContainerId, group_.container_id)},
        "key");
    if (entry.IsNull() || (entry.IsMap() && criteria_ == 0)) {
      checker_.Add(entry.Mark(),
                   path +
                       ": nothing to match by: expected at least one of comm, exe, cmdline, user, cgroup, unit, "
                       "container_id (default_group names all others)");
    }
    if (name_mark_ && captures_known_) CheckMatches(path);
  }

 private:
  Checker::Key NameKey() {
    Checker::Key key =
        checker_.Value("name", "a name such as \"redis-{{.Matches.port}}\"", &ParseNameTemplate, group_.name);
    key.read = [this, read = std::move(key.read)](const YAML::Node& value, const std::string& path) {
      const size_t errors = checker_.Errors();
      read(value, path);
      if (checker_.Errors() == errors) name_mark_ = value.Mark();
    };
    return key;
  }

  Checker::Key List(std::string name, std::string what, std::function<Problem(const std::string&)> problem,
                    Names& target) {
    Checker::Key key = checker_.Texts(std::move(name), std::move(what), "a text", std::move(problem), target);
    key.read = [this, read = std::move(key.read)](const YAML::Node& value, const std::string& path) {
      if (!value.IsNull() && !(value.IsSequence() && value.size() == 0)) ++criteria_;
      read(value, path);
    };
    return key;
  }

  Checker::Key Expressions(std::string name, Names& target, Names* captured) {
    const auto problem = [this, captured](const std::string& text) -> Problem {
      const re2::RE2 expression(text, re2::RE2::Quiet);
      if (!expression.ok()) {
        if (captured != nullptr) captures_known_ = false;
        return "bad regular expression " + Quoted(text) + ": " + expression.error();
      }
      if (captured == nullptr) return std::nullopt;
      for (const auto& [group, number] : expression.NamedCapturingGroups()) captured->push_back(group);
      return std::nullopt;
    };
    return List(std::move(name), "regular expressions", problem, target);
  }

  void CheckMatches(const std::string& path) {
    for (const GroupNamePart& part : group_.name) {
      if (part.kind != GroupNamePart::Kind::kMatch) continue;
      if (std::find(captured_.begin(), captured_.end(), part.text) != captured_.end()) continue;
      const std::string hint =
          captured_.empty() ? "none has a capture group, which is written (?P<NAME>...)" : Hint(part.text, captured_);
      checker_.Add(*name_mark_, path + ".name: no cmdline of this entry captures " + Quoted(part.text) + "; " + hint);
    }
  }

  Checker& checker_;
  GroupRule& group_;
  std::optional<YAML::Mark> name_mark_;
  Names captured_;  // by the regular expressions of cmdline
  bool captures_known_ = true;
  size_t criteria_ = 0;  // keys to match by
};

Parsed<std::optional<GroupName>> ParseDefaultGroup(std::string_view text) {
  if (text == "drop") return std::nullopt;
  auto name = ParseNameTemplate(text);
  if (!name) return tl::unexpected(name.error());
  const auto is_match = [](const GroupNamePart& part) { return part.kind == GroupNamePart::Kind::kMatch; };
  if (std::any_of(name->begin(), name->end(), is_match)) {
    return tl::unexpected(std::string(".Matches needs cmdline, which default_group does not have"));
  }
  return std::move(*name);
}

}  // namespace

Checker::Key GroupsKey(Checker& checker, std::vector<GroupRule>& target) {
  return {"groups", [&checker, &target](const YAML::Node& value, const std::string& path) {
            checker.ReadList(value, path, "maps", [&](const YAML::Node& entry, const std::string& entry_path) {
              GroupRule group;
              group.name = {{GroupNamePart::Kind::kExeBase, ""}};
              EntryReader(checker, group).Read(entry, entry_path);
              target.push_back(std::move(group));
            });
          }};
}

Checker::Key DefaultGroupKey(Checker& checker, std::optional<GroupName>& target) {
  return checker.Value("default_group", "a name such as \"{{.Comm}}\", or drop", &ParseDefaultGroup, target);
}

}  // namespace cow::config
