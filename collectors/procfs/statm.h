// Reads /proc/PID/statm: the exact resident and shared sizes that change detection relies on. World-readable. Any
// thread.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string_view>

#include "collectors/base/result.h"
#include "collectors/procfs/root.h"

namespace cow::procfs {

struct Statm {  // in pages of the system's page size
  uint64_t size_pages = 0;
  uint64_t resident_pages = 0;
  uint64_t shared_pages = 0;  // resident file and shmem pages

  bool operator==(const Statm&) const = default;
};

Result<Statm> ReadStatm(const Root& root, pid_t pid);
Result<Statm> ParseStatm(std::string_view text, const std::string& path);

}  // namespace cow::procfs
