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

struct WritersOptions {
  static constexpr size_t kMostTop = 100;
  static constexpr uint32_t kMostOneIn = 1'000'000;

  size_t top = 10;                                         // writers of a group with a series of their own
  uint32_t one_in = 16;                                    // records one of this many page faults
  uint64_t ring_bytes = uint64_t{8} << 20U;                // of all rings together
  std::chrono::milliseconds hold = std::chrono::hours(1);  // how long a writer is published after it left the top

  bool operator==(const WritersOptions&) const = default;
};

struct CollectorOptions {
  SmapsOptions smaps;
  ProcessOptions process;
  WritersOptions writers;

  bool operator==(const CollectorOptions&) const = default;
};

}  // namespace cow::collectors
