// `cow_exporter explain PROCESS`: shows a family to a person, once or repeatedly.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>

#include "collectors/base/group_rule.h"
#include "exporter/explain/writers_options.h"

namespace cow::exporter {

struct ExplainOptions {
  pid_t pid = 0;                    // 0: the process is given by name or group
  std::string name;                 // empty: by pid or group
  std::string group;                // empty: by pid or name
  GroupOptions groups;              // of the configuration in force; for `group`
  size_t label_value_length = 128;  // likewise
  bool json = false;
  bool pages = false;
  std::optional<uint64_t> mapping;                 // an address in the mapping to show
  std::optional<std::chrono::milliseconds> watch;  // time between looks; empty: look once
  std::optional<WritersOptions> writers;           // RunWriters handles these
  std::string procfs = "/proc";
  std::string sysfs = "/sys";
};

// Returns the exit code: 0, or 1 with a message on `problem`. Exits with 0 and without a message if the reader closes
// the pipe. A watch ends at SIGINT or SIGTERM too, and with 1 when the process ends. A watch by name or group stays
// with the process that it found first.
int RunExplain(const ExplainOptions& options, std::FILE* out, std::FILE* problem);

}  // namespace cow::exporter
