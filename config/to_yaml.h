// Writes a configuration as YAML that loads to the same configuration. Pure, any thread.
#pragma once

#include <string>

#include "config/config.h"

namespace cow::config {

// Writes every key of scan, limits, groups and default_group, and the collectors that `config` lists.
std::string ToYaml(const Config& config);

}  // namespace cow::config
