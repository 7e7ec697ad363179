// Writes what a command shows. The program has only one thread here.
#pragma once

#include <cstdio>
#include <optional>
#include <string>

namespace cow::exporter {

// Returns false on a write error, which errno has.
bool Write(std::FILE* out, const std::string& text);

// Writes a result. Returns the exit code if that failed: 0 without a message if the reader has closed the pipe, else 1
// with a message on `problem`.
std::optional<int> WriteResult(std::FILE* out, const std::string& text, std::FILE* problem);

}  // namespace cow::exporter
