// A portrait as JSON: {"pid", "page_bytes", "family": […], "mappings": […], …}. Sizes in bytes, addresses as "0x…".
// Pure.
#pragma once

#include <string>

#include "collectors/explain/portrait.h"

namespace cow::exporter {

// One line, or indented for a person. Names that are no UTF-8 have their bad bytes replaced.
std::string PortraitJson(const explain::Portrait& portrait, bool indented);

}  // namespace cow::exporter
