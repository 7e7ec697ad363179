// Parses process ids, addresses and paths from the command line and from URIs. Pure functions, any thread.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "config/units.h"

namespace cow::exporter {

config::Parsed<pid_t> ParsePid(std::string_view text);

// Hexadecimal as in maps, with or without 0x.
config::Parsed<uint64_t> ParseAddress(std::string_view text);

// True if the text consists of digits, so it can only be a process id.
bool IsPid(std::string_view text);

// Rejects an empty text and NUL bytes.
config::Parsed<std::string> ParsePath(std::string_view text);

}  // namespace cow::exporter
