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

// Compiles the regular expressions of a file as the groups do, within limits of time and memory for all of them.
class ExpressionChecker {
 public:
  // Returns what is wrong with an expression. Adds the names that it captures to `captured` unless that is null.
  Problem Check(const std::string& text, Names* captured) {
    if (text.size() > kMaxBytes) {
      return "a regular expression of " + std::to_string(text.size()) + " bytes, at most " + std::to_string(kMaxBytes) +
             " are possible";
    }
    if (++count_ > kMaxCount) {
      return "too many regular expressions: at most " + std::to_string(kMaxCount) + " are possible in all groups";
    }
    if (instructions_ > kMaxInstructions) return "the regular expressions before this one are too large together";
    re2::RE2::Options options(re2::RE2::Quiet);
    options.set_max_mem(kExpressionMemoryBytes);
    const re2::RE2 expression(text, options);
    if (!expression.ok()) {
      if (expression.error_code() == re2::RE2::ErrorPatternTooLarge) instructions_ += kCostOfTooLarge;
      return "bad regular expression " + Quoted(text) + ": " + Escaped(expression.error());
    }
    instructions_ += static_cast<size_t>(expression.ProgramSize());
    if (captured == nullptr) return std::nullopt;
    for (const auto& [group, number] : expression.NamedCapturingGroups()) captured->push_back(group);
    return std::nullopt;
  }

 private:
  static constexpr size_t kMaxBytes = 4096;
  static constexpr size_t kMaxCount = 1000;
  static constexpr size_t kMaxInstructions = 200'000;  // of RE2's programs
  static constexpr size_t kCostOfTooLarge = 10'000;    // RE2 compiles a part of it

  size_t count_ = 0;
  size_t instructions_ = 0;
};

// Reads one entry of `groups`.
class EntryReader {
 public:
  EntryReader(Checker& checker, ExpressionChecker& expressions, GroupRule& group)
      : checker_(checker), expressions_(expressions), group_(group) {}

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
      Problem found = expressions_.Check(text, captured);
      if (found && captured != nullptr) captures_known_ = false;
      return found;
    };
    return List(std::move(name), "regular expressions", problem, target);
  }

  void CheckMatches(const std::string& path) {
    for (const GroupNamePart& part : group_.name) {
      if (part.kind != GroupNamePart::Kind::kMatch) continue;
      if (std::find(captured_.begin(), captured_.end(), part.text) != captured_.end()) continue;
      const std::string hint =
          captured_.empty() ? "none has a capture group, which is written (?P<NAME>...)" : Hint(part.text, captured_);
      return checker_.Add(*name_mark_,
                          path + ".name: no cmdline of this entry captures " + Quoted(part.text) + "; " + hint);
    }
  }

  Checker& checker_;
  ExpressionChecker& expressions_;
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
            ExpressionChecker expressions;
            checker.ReadList(value, path, "maps", [&](const YAML::Node& entry, const std::string& entry_path) {
              GroupRule group;
              group.name = {{GroupNamePart::Kind::kExeBase, ""}};
              EntryReader(checker, expressions, group).Read(entry, entry_path);
              target.push_back(std::move(group));
            });
          }};
}

Checker::Key DefaultGroupKey(Checker& checker, std::optional<GroupName>& target) {
  return checker.Value("default_group", "a name such as \"{{.Comm}}\", or drop", &ParseDefaultGroup, target);
}

}  // namespace cow::config
