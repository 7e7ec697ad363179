// `cow_exporter explain PID`: looks at a family for a person, once or again and again.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>

namespace cow::exporter {

struct ExplainOptions {
  pid_t pid = 0;
  bool json = false;
  bool pages = false;
  std::optional<uint64_t> mapping;                 // an address in it
  std::optional<std::chrono::milliseconds> watch;  // time between two looks; empty: one look
  std::string procfs = "/proc";
  std::string sysfs = "/sys";
};

// Ends with the exit code: 0, or 1 with a message to `problem`. A watch ends with SIGINT or SIGTERM, with the process
// that it is of, or when nobody reads it any more.
int RunExplain(const ExplainOptions& options, std::FILE* out, std::FILE* problem);

}  // namespace cow::exporter
