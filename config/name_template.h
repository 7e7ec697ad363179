// Parses templates of group names, such as "redis-{{.Matches.port}}". Pure functions, any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/units.h"

namespace cow::config {

enum class NameVariable { kComm, kExeBase, kUsername, kUnit, kContainerId, kPodUid, kMatch };

struct NamePart {
  std::optional<NameVariable> variable;  // empty: `text` is literal
  std::string text;                      // for kMatch the capture group's name, empty for other variables
};

struct NameTemplate {
  std::string text;  // as written
  std::vector<NamePart> parts;
};

// Rejects an empty text and unknown variables.
Parsed<NameTemplate> ParseNameTemplate(std::string_view text);

NameTemplate DefaultGroupName();  // "{{.Comm}}"
NameTemplate DefaultEntryName();  // "{{.ExeBase}}", for an entry of `groups` without a name

}  // namespace cow::config
