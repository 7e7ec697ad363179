// The options of the collectors that have some. Plain values; the configuration fills them in.
#pragma once

#include <cstdint>

namespace cow::collectors {

struct SmapsOptions {
  // Processes larger than this, resident and swapped together, are not asked for their smaps_rollup: the kernel holds
  // their mmap lock while it answers.
  uint64_t max_rss_bytes = uint64_t{512} << 20U;

  bool operator==(const SmapsOptions&) const = default;
};

struct CollectorOptions {
  SmapsOptions smaps;

  bool operator==(const CollectorOptions&) const = default;
};

}  // namespace cow::collectors
