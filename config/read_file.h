// Reads regular files of a bounded size. A pipe, a socket, a device or a directory is an error, so that
// no read waits for a writer. Throws only bad_alloc. Any thread.
#pragma once

#include <cstddef>
#include <string>

#include "config/units.h"

namespace cow::config {

inline constexpr size_t kMaxTextBytes = size_t{1} << 20U;

// Reads a whole file of at most `limit` bytes. The error is one phrase without the path.
Parsed<std::string> ReadTextFile(const std::string& path, size_t limit = kMaxTextBytes);

}  // namespace cow::config
