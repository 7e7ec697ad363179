// Writes a portrait as JSON: {"pid", "page_bytes", "family": […], "mappings": […], …}. Sizes in bytes, addresses as
// "0x…". Pure, any thread.
#pragma once

#include <string>

#include "collectors/explain/portrait.h"

namespace cow::exporter {

// Returns one line, or indented lines. Replaces invalid UTF-8 by U+FFFD.
std::string PortraitJson(const explain::Portrait& portrait, bool indented);

// A line {"error": message}. Replaces invalid UTF-8 by U+FFFD.
std::string ErrorJson(const std::string& message);

}  // namespace cow::exporter
