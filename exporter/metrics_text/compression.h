// gzip (RFC 1952) of a text that is held in memory. Pure, any thread.
#pragma once

#include <string>
#include <string_view>

namespace cow::exporter {

// Throws std::runtime_error if zlib can't: that is, without memory.
std::string Gzip(std::string_view text);

}  // namespace cow::exporter
