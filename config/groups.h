// Reads the sections `groups` and `default_group`. Checks that regular expressions compile within limits of time and
// memory, and that `cmdline` captures the matches of a name.
#pragma once

#include <optional>
#include <vector>

#include "config/checker.h"
#include "config/config.h"

namespace cow::config {

// `checker` and `target` must outlive the key.
Checker::Key GroupsKey(Checker& checker, std::vector<GroupRule>& target);
Checker::Key DefaultGroupKey(Checker& checker, std::optional<GroupName>& target);

}  // namespace cow::config
