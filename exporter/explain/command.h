// `cow_exporter explain PID`: shows a family to a person, once or repeatedly.
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
  std::optional<uint64_t> mapping;                 // an address in the mapping to show
  std::optional<std::chrono::milliseconds> watch;  // time between looks; empty: look once
  std::string procfs = "/proc";
  std::string sysfs = "/sys";
};

// Returns the exit code: 0, or 1 with a message on `problem`. A watch ends at SIGINT or SIGTERM, when the process ends,
// or when the reader closes the pipe.
int RunExplain(const ExplainOptions& options, std::FILE* out, std::FILE* problem);

}  // namespace cow::exporter
