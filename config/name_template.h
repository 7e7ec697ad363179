// Names of groups with variables in them, such as "redis-{{.Matches.port}}": text to plain parts, checked. Pure
// functions, any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/units.h"

namespace cow::config {

enum class NameVariable { kComm, kExeBase, kUsername, kUnit, kContainerId, kPodUid, kMatch };

struct NamePart {
  std::optional<NameVariable> variable;  // empty: `text` stands for itself
  std::string text;                      // of kMatch the capture group's name, of other variables nothing
};

struct NameTemplate {
  std::string text;  // as written
  std::vector<NamePart> parts;
};

// Neither empty nor with an unknown variable.
Parsed<NameTemplate> ParseNameTemplate(std::string_view text);

NameTemplate DefaultGroupName();  // "{{.Comm}}"
NameTemplate DefaultEntryName();  // "{{.ExeBase}}", of an entry of `groups` without a name

}  // namespace cow::config
