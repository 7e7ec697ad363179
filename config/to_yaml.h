// A configuration as the text of a file that would give it: for people who want to see what is in force. Pure.
#pragma once

#include <string>

#include "config/config.h"

namespace cow::config {

// Every key of scan, limits, groups and default_group; of `collectors` what is in it.
std::string ToYaml(const Config& config);

}  // namespace cow::config
