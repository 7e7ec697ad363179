// Compresses a text in memory with gzip (RFC 1952). Pure, any thread.
#pragma once

#include <string>
#include <string_view>

namespace cow::exporter {

// Throws std::runtime_error if zlib has no memory.
std::string Gzip(std::string_view text);

}  // namespace cow::exporter
