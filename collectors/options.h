// The options of the collectors that have some. Plain values; the configuration fills them in.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace cow::collectors {

struct SmapsOptions {
  // Processes larger than this, resident and swapped together, are not asked for their smaps_rollup: the kernel holds
  // their mmap lock while it answers.
  uint64_t max_rss_bytes = uint64_t{512} << 20U;
};

struct ProcessOptions {
  enum class By { kExposure, kPrivate, kBreaks };

  static constexpr size_t kMostTop = 1000;

  size_t top = 10;                                         // so many are published, those with the most
  By by = By::kExposure;                                   // of this
  std::chrono::milliseconds hold = std::chrono::hours(1);  // after it was among them for the last time
};

struct CollectorOptions {
  SmapsOptions smaps;
  ProcessOptions process;
};

}  // namespace cow::collectors
