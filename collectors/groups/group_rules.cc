#include "collectors/groups/group_rules.h"

#include <pwd.h>
#include <re2/re2.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <map>
#include <memory>
#include <stdexcept>
#include <utility>
#include <vector>

#include "collectors/base/utf8.h"

namespace cow::collectors {
namespace {

using Expressions = std::vector<std::unique_ptr<re2::RE2>>;
using Captures = std::map<std::string, std::string>;

Expressions Compile(const std::vector<std::string>& texts) {
  re2::RE2::Options options(re2::RE2::Quiet);
  options.set_max_mem(kExpressionMemoryBytes);
  Expressions expressions;
  for (const std::string& text : texts) {
    expressions.push_back(std::make_unique<re2::RE2>(text, options));
    if (!expressions.back()->ok()) {
      throw std::invalid_argument("bad regular expression " + text + ": " + expressions.back()->error());
    }
  }
  return expressions;
}

// Removes the kernel's mark of a program file that was deleted or replaced.
std::string_view ProgramOf(std::string_view exe) {
  constexpr std::string_view kDeleted = " (deleted)";
  if (exe.ends_with(kDeleted)) exe.remove_suffix(kDeleted.size());
  return exe;
}

std::string_view BaseName(std::string_view path) { return path.substr(path.rfind('/') + 1); }

bool Contains(const std::vector<std::string>& list, std::string_view value) {
  return std::find(list.begin(), list.end(), value) != list.end();
}

bool IsFixed(const GroupName& name) {
  return std::all_of(name.begin(), name.end(),
                     [](const GroupNamePart& part) { return part.kind == GroupNamePart::Kind::kText; });
}

// Replaces invalid bytes by U+FFFD, as labels do, because RE2 rejects invalid UTF-8.
std::string AsUtf8(std::string_view text) { return LabelValue(text, std::numeric_limits<size_t>::max()); }

bool FindAll(const Expressions& expressions, const std::string& text, Captures& captures) {
  for (const auto& expression : expressions) {
    std::vector<re2::StringPiece> groups(static_cast<size_t>(expression->NumberOfCapturingGroups()) + 1);
    if (!expression->Match(text, 0, text.size(), re2::RE2::UNANCHORED, groups.data(),
                           static_cast<int>(groups.size()))) {
      return false;
    }
    for (const auto& [name, number] : expression->NamedCapturingGroups()) {
      captures[name] = std::string(groups.at(static_cast<size_t>(number)));
    }
  }
  return true;
}

}  // namespace

const std::string& UserNames::NameOf(uint32_t uid) {
  if (const auto known = names_.find(uid); known != names_.end()) return known->second;
  if (names_.size() >= kMaxKept) names_.clear();
  return names_.emplace(uid, find_(uid).value_or(std::to_string(uid))).first->second;
}

std::optional<std::string> FindUserName(uint32_t uid) {
  constexpr size_t kMaxBytes = size_t{1} << 20U;
  for (size_t bytes = 1024; bytes <= kMaxBytes; bytes *= 4) {
    std::vector<char> buffer(bytes);
    passwd entry{};
    passwd* found = nullptr;
    const int error = getpwuid_r(uid, &entry, buffer.data(), buffer.size(), &found);
    if (error == ERANGE) continue;
    if (error != 0 || found == nullptr || entry.pw_name == nullptr) return std::nullopt;
    return std::string(entry.pw_name);
  }
  return std::nullopt;
}

struct GroupRules::Rule {
  explicit Rule(const GroupRule& rule) : asked(rule), cmdline(Compile(rule.cmdline)), cgroup(Compile(rule.cgroup)) {}

  GroupRule asked;
  Expressions cmdline;
  Expressions cgroup;
};

// Tests rules against one process and caches its properties.
class GroupRules::Judgement {
 public:
  Judgement(const GroupSubject& subject, UserNames& users)
      : subject_(subject), users_(users), program_(ProgramOf(subject.exe)) {}

  // Tests the cheapest keys first.
  bool Matches(const Rule& rule) {
    captures_.clear();
    return MatchesName(rule.asked) && MatchesCgroup(rule) && MatchesUser(rule.asked) && MatchesExe(rule.asked) &&
           MatchesCommandLine(rule);
  }

  std::string Name(const GroupName& name) {
    std::string text;
    for (const GroupNamePart& part : name) text += Value(part);
    return text.empty() ? kUnnamed : text;
  }

  const std::string& unread_key() const { return unread_key_; }

 private:
  bool MatchesName(const GroupRule& rule) const { return rule.comm.empty() || Contains(rule.comm, subject_.comm); }

  bool MatchesCgroup(const Rule& rule) const {
    const GroupRule& asked = rule.asked;
    if (!asked.unit.empty() && !Contains(asked.unit, subject_.names.unit)) return false;
    const std::string& id = subject_.names.container_id;
    const auto begins = [&id](const std::string& prefix) { return !id.empty() && id.starts_with(prefix); };
    if (!asked.container_id.empty() && std::none_of(asked.container_id.begin(), asked.container_id.end(), begins)) {
      return false;
    }
    if (rule.cgroup.empty()) return true;
    const std::string path = AsUtf8(subject_.cgroup_path);
    return std::any_of(rule.cgroup.begin(), rule.cgroup.end(),
                       [&path](const auto& expression) { return re2::RE2::PartialMatch(path, *expression); });
  }

  bool MatchesUser(const GroupRule& rule) const {
    if (rule.user.empty()) return true;
    return Contains(rule.user, std::to_string(subject_.uid)) || Contains(rule.user, users_.NameOf(subject_.uid));
  }

  bool MatchesExe(const GroupRule& rule) {
    if (rule.exe.empty()) return true;
    if (program_.empty()) return Unread("exe");
    return Contains(rule.exe, program_) || Contains(rule.exe, BaseName(program_));
  }

  bool MatchesCommandLine(const Rule& rule) {
    if (rule.cmdline.empty()) return true;
    if (!command_line_asked_) {
      command_line_asked_ = true;
      if (const auto read = subject_.read_command_line()) command_line_ = AsUtf8(*read);
    }
    return command_line_ ? FindAll(rule.cmdline, *command_line_, captures_) : Unread("cmdline");
  }

  // Notes a key that could not be read. Returns false: such a key never matches.
  bool Unread(const char* key) {
    unread_key_ = key;
    return false;
  }

  std::string Value(const GroupNamePart& part) {
    switch (part.kind) {
      case GroupNamePart::Kind::kText:
        return part.text;
      case GroupNamePart::Kind::kComm:
        return subject_.comm;
      case GroupNamePart::Kind::kExeBase:
        return std::string(BaseName(program_));
      case GroupNamePart::Kind::kUsername:
        return users_.NameOf(subject_.uid);
      case GroupNamePart::Kind::kUnit:
        return subject_.names.unit;
      case GroupNamePart::Kind::kContainerId:
        return subject_.names.container_id;
      case GroupNamePart::Kind::kPodUid:
        return subject_.names.pod_uid;
      case GroupNamePart::Kind::kMatch:
        return captures_[part.text];
    }
    return {};
  }

  const GroupSubject& subject_;
  UserNames& users_;
  std::string_view program_;
  std::optional<std::string> command_line_;
  bool command_line_asked_ = false;
  Captures captures_;  // captures of the rule tested last
  std::string unread_key_;
};

GroupRules::GroupRules(const GroupOptions& options, UserNames::Find find_user)
    : default_name_(options.default_name), users_(std::move(find_user)) {
  const auto note = [this](const GroupName& name) {
    for (const GroupNamePart& part : name) {
      ask_for_user_ = ask_for_user_ || part.kind == GroupNamePart::Kind::kUsername;
    }
    if (!IsFixed(name)) return;
    std::string text;
    for (const GroupNamePart& part : name) text += part.text;
    if (!Contains(fixed_names_, text)) fixed_names_.push_back(std::move(text));
  };
  for (const GroupRule& rule : options.rules) {
    rules_.emplace_back(rule);
    ask_for_user_ = ask_for_user_ || !rule.user.empty();
    note(rule.name);
  }
  if (default_name_) note(*default_name_);
}

GroupRules::~GroupRules() = default;
GroupRules::GroupRules(GroupRules&&) noexcept = default;
GroupRules& GroupRules::operator=(GroupRules&&) noexcept = default;

GroupVerdict GroupRules::Judge(const GroupSubject& subject) {
  Judgement judgement(subject, users_);
  for (const Rule& rule : rules_) {
    if (judgement.Matches(rule)) return {judgement.Name(rule.asked.name), true, judgement.unread_key()};
  }
  if (!default_name_) return {std::nullopt, false, judgement.unread_key()};
  return {judgement.Name(*default_name_), false, judgement.unread_key()};
}

}  // namespace cow::collectors
