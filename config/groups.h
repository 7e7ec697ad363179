// The sections `groups` and `default_group`. They are checked whole: regular expressions are compiled, and what a name
// takes from the command line must be captured there.
#pragma once

#include <optional>
#include <vector>

#include "config/checker.h"
#include "config/config.h"

namespace cow::config {

// Both refer to `checker` and their target, which outlive the key.
Checker::Key GroupsKey(Checker& checker, std::vector<GroupConfig>& target);
Checker::Key DefaultGroupKey(Checker& checker, std::optional<NameTemplate>& target);

}  // namespace cow::config
