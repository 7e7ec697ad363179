// Parses process ids and addresses from the command line and from URIs. Pure functions, any thread.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string_view>

#include "config/units.h"

namespace cow::exporter {

config::Parsed<pid_t> ParsePid(std::string_view text);

// Hexadecimal as in maps, with or without 0x.
config::Parsed<uint64_t> ParseAddress(std::string_view text);

}  // namespace cow::exporter
