#include "config/name_template.h"

#include <array>
#include <cstddef>
#include <utility>

#include "collectors/base/text.h"
#include "config/hint.h"

namespace cow::config {
namespace {

constexpr size_t kMaxBytes = 4096;  // as much as the longest label
constexpr std::string_view kOpen = "{{";
constexpr std::string_view kClose = "}}";
constexpr std::string_view kMatches = ".Matches.";

using Kind = GroupNamePart::Kind;

constexpr std::array<std::pair<std::string_view, Kind>, 6> kVariables{{{".Comm", Kind::kComm},
                                                                       {".ExeBase", Kind::kExeBase},
                                                                       {".Username", Kind::kUsername},
                                                                       {".Unit", Kind::kUnit},
                                                                       {".ContainerID", Kind::kContainerId},
                                                                       {".PodUID", Kind::kPodUid}}};

Parsed<GroupNamePart> ParseVariable(std::string_view name) {
  for (const auto& [known, variable] : kVariables) {
    if (name == known) return GroupNamePart{variable, ""};
  }
  // A brace would end another variable when the name is written again.
  if (name.starts_with(kMatches) && name.size() > kMatches.size() && name.find_first_of("{}") == name.npos) {
    return GroupNamePart{Kind::kMatch, std::string(name.substr(kMatches.size()))};
  }
  std::vector<std::string> valid;
  valid.reserve(kVariables.size() + 1);
  for (const auto& [known, variable] : kVariables) valid.emplace_back(known);
  valid.push_back(std::string(kMatches) + "NAME");
  return tl::unexpected("unknown variable " + Quoted(name) + "; " + Hint(name, valid));
}

}  // namespace

Parsed<GroupName> ParseNameTemplate(std::string_view text) {
  GroupName name;
  const std::string_view whole = text;
  if (text.empty()) return tl::unexpected(std::string("a name can't be empty"));
  if (text.size() > kMaxBytes) {
    return tl::unexpected("a name of " + std::to_string(text.size()) + " bytes, at most " + std::to_string(kMaxBytes) +
                          " are possible");
  }
  while (!text.empty()) {
    const size_t open = text.find(kOpen);
    if (open != 0) name.push_back({Kind::kText, std::string(text.substr(0, open))});
    if (open == std::string_view::npos) break;
    text.remove_prefix(open + kOpen.size());
    const size_t close = text.find(kClose);
    if (close == std::string_view::npos) return tl::unexpected("no }} after {{ in " + Quoted(whole));
    auto part = ParseVariable(text::Trim(text.substr(0, close)));
    if (!part) return tl::unexpected(part.error());
    name.push_back(std::move(*part));
    text.remove_prefix(close + kClose.size());
  }
  return name;
}

std::string TextOf(const GroupName& name) {
  std::string text;
  for (const GroupNamePart& part : name) {
    if (part.kind == Kind::kText) {
      text += part.text;
      continue;
    }
    text += kOpen;
    for (const auto& [variable, kind] : kVariables) {
      if (kind == part.kind) text += variable;
    }
    if (part.kind == Kind::kMatch) text += std::string(kMatches) + part.text;
    text += kClose;
  }
  return text;
}

}  // namespace cow::config
