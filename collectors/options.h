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

  bool operator==(const SmapsOptions&) const = default;
};

struct ProcessOptions {
  enum class By { kExposure, kPrivate, kBreaks };

  static constexpr size_t kMostTop = 1000;

  size_t top = 10;                                         // so many are published, those with the most
  By by = By::kExposure;                                   // of this
  std::chrono::milliseconds hold = std::chrono::hours(1);  // after it was among them for the last time

  bool operator==(const ProcessOptions&) const = default;
};

struct CollectorOptions {
  SmapsOptions smaps;
  ProcessOptions process;

  bool operator==(const CollectorOptions&) const = default;
};

}  // namespace cow::collectors
