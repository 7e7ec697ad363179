// Describes a portrait in words: sizes, a summary and its limits. Pure functions, any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "collectors/explain/portrait.h"

namespace cow::exporter {

// Formats with a binary unit and one decimal below ten: "412 MiB", "1.5 GiB", "0".
std::string HumanBytes(uint64_t bytes);

// An address without 0x, as in /proc/PID/maps.
std::string Hex(uint64_t address);

// Replaces bytes that are not printable ASCII by "?".
std::string Printable(std::string_view text);

// Summarizes the portrait in a few sentences.
std::string Summary(const explain::Portrait& portrait);

// Describes what was copied since the last look; empty at the first look.
std::string SinceLastLook(const explain::Portrait& portrait);

// Lists what this look could not determine, and what it would need.
std::vector<std::string> Limits(const explain::Portrait& portrait);

// Lists what the requested process has besides the columns of the tables; empty if there is nothing.
std::string AlsoHas(const explain::Portrait& portrait);

// UTC in whole seconds, RFC 3339: "2026-12-01T16:45:00Z".
std::string TimeText(std::chrono::system_clock::time_point time);

// "rw-p", as in /proc/PID/maps.
std::string Permissions(const procfs::Vma& vma);

// "heap", "stack", "anon", "file" or "shmem".
std::string_view MappingKindName(memory::MappingKind kind);

}  // namespace cow::exporter
