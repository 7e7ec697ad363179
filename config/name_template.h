// Parses templates of group names, such as "redis-{{.Matches.port}}". Pure functions, any thread.
#pragma once

#include <string>
#include <string_view>

#include "collectors/base/group_rule.h"
#include "config/units.h"

namespace cow::config {

// Rejects an empty text, one above 4096 bytes, and unknown variables.
Parsed<GroupName> ParseNameTemplate(std::string_view text);
// The template that parses to `name`.
std::string TextOf(const GroupName& name);

}  // namespace cow::config
