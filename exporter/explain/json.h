// Writes a portrait as JSON: {"pid", "time", "page_bytes", "family": […], "mappings": […], …}. Sizes in bytes,
// addresses as "0x…". Pure, any thread.
//
// Of each process and mapping: resident = shared + copied + original + private + unknown + zero + merged + file.
// private = unshared + unattributed + pages never seen shared. file_copied and file_original are the parts of copied
// and original in private file mappings. huge, swapped and unresolved bytes are not parts of this sum. broken counts
// what was copied since a fork, as cow_break_bytes_total does, whether or not it was shared again.
#pragma once

#include <string>

#include "collectors/explain/portrait.h"

namespace cow::exporter {

// Returns one line, or indented lines. Replaces invalid UTF-8 by U+FFFD.
std::string PortraitJson(const explain::Portrait& portrait, bool indented);

// A line {"error": message}. Replaces invalid UTF-8 by U+FFFD.
std::string ErrorJson(const std::string& message);

}  // namespace cow::exporter
