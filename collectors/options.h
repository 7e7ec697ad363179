// The options of collectors. Plain values; the configuration fills them in.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace cow::collectors {

struct SmapsOptions {
  // smaps_rollup of larger processes (resident plus swapped) is not read: the kernel holds their mmap lock during the
  // read.
  uint64_t max_rss_bytes = uint64_t{512} << 20U;

  bool operator==(const SmapsOptions&) const = default;
};

struct ProcessOptions {
  enum class By { kExposure, kPrivate, kBreaks };

  static constexpr size_t kMostTop = 1000;

  size_t top = 10;                                         // how many processes are published
  By by = By::kExposure;                                   // what they are ranked by
  std::chrono::milliseconds hold = std::chrono::hours(1);  // how long a process is published after it left the top

  bool operator==(const ProcessOptions&) const = default;
};

struct CollectorOptions {
  SmapsOptions smaps;
  ProcessOptions process;

  bool operator==(const CollectorOptions&) const = default;
};

}  // namespace cow::collectors
