// What is said of a portrait: sizes for a person, one sentence of plain words, and what can't be known. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "collectors/explain/portrait.h"

namespace cow::exporter {

// "412 MiB", "1.5 GiB", "0": binary units, one decimal below ten.
std::string HumanBytes(uint64_t bytes);

// An address without 0x, as in /proc/PID/maps.
std::string Hex(uint64_t address);

// Bytes that a terminal would not print as they are become "?".
std::string Printable(std::string_view text);

// True of any portrait: of one process or many, with marks and frames known or not.
std::string Sentence(const explain::Portrait& portrait);

// What was broken between two looks; empty at a first one.
std::string SinceLastLook(const explain::Portrait& portrait);

// Sentences about what this look could not know, and what would be needed for it.
std::vector<std::string> Limits(const explain::Portrait& portrait);

// "heap", "stack", "anon", "file" or "shmem".
std::string_view MappingKindName(memory::MappingKind kind);

}  // namespace cow::exporter
