#include "config/name_template.h"

#include <array>
#include <utility>

#include "collectors/base/text.h"
#include "config/hint.h"

namespace cow::config {
namespace {

constexpr std::string_view kOpen = "{{";
constexpr std::string_view kClose = "}}";
constexpr std::string_view kMatches = ".Matches.";

constexpr std::array<std::pair<std::string_view, NameVariable>, 6> kVariables{
    {{".Comm", NameVariable::kComm},
     {".ExeBase", NameVariable::kExeBase},
     {".Username", NameVariable::kUsername},
     {".Unit", NameVariable::kUnit},
     {".ContainerID", NameVariable::kContainerId},
     {".PodUID", NameVariable::kPodUid}}};

Parsed<NamePart> ParseVariable(std::string_view name) {
  for (const auto& [known, variable] : kVariables) {
    if (name == known) return NamePart{variable, ""};
  }
  if (name.starts_with(kMatches) && name.size() > kMatches.size()) {
    return NamePart{NameVariable::kMatch, std::string(name.substr(kMatches.size()))};
  }
  std::vector<std::string> valid;
  valid.reserve(kVariables.size() + 1);
  for (const auto& [known, variable] : kVariables) valid.emplace_back(known);
  valid.push_back(std::string(kMatches) + "NAME");
  return tl::unexpected("unknown variable " + Quoted(name) + "; " + Hint(name, valid));
}

}  // namespace

Parsed<NameTemplate> ParseNameTemplate(std::string_view text) {
  NameTemplate result;
  result.text = text;
  if (text.empty()) return tl::unexpected(std::string("a name can't be empty"));
  while (!text.empty()) {
    const size_t open = text.find(kOpen);
    if (open != 0) result.parts.push_back({std::nullopt, std::string(text.substr(0, open))});
    if (open == std::string_view::npos) break;
    text.remove_prefix(open + kOpen.size());
    const size_t close = text.find(kClose);
    if (close == std::string_view::npos) return tl::unexpected("no }} after {{ in " + Quoted(result.text));
    auto part = ParseVariable(text::Trim(text.substr(0, close)));
    if (!part) return tl::unexpected(part.error());
    result.parts.push_back(std::move(*part));
    text.remove_prefix(close + kClose.size());
  }
  return result;
}

NameTemplate DefaultGroupName() { return ParseNameTemplate("{{.Comm}}").value(); }
NameTemplate DefaultEntryName() { return ParseNameTemplate("{{.ExeBase}}").value(); }

}  // namespace cow::config
