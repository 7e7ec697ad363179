// The options of a scan. Plain values.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>

namespace cow::memory {

// What a scan reads besides the windows: the union of the needs of all collectors.
struct Needs {
  // Largest member whose smaps_rollup is read (resident plus swapped); empty: none.
  std::optional<uint64_t> smaps_rollup_max_bytes;
  bool ksm_stat = false;     // of every member, in every pass
  bool member_sums = false;  // of every member of a family that is read

  void Add(const Needs& other) {
    if (!smaps_rollup_max_bytes || smaps_rollup_max_bytes < other.smaps_rollup_max_bytes) {
      smaps_rollup_max_bytes = other.smaps_rollup_max_bytes;
    }
    ksm_stat = ksm_stat || other.ksm_stat;
    member_sums = member_sums || other.member_sums;
  }
};

struct PassOptions {
  // Each member is read at least this often, even without a change signal. 0: in every pass.
  std::chrono::milliseconds full_every{0};
  // Reads all members and reports all windows, changed or not.
  bool show_all = false;
  // A time before the change signals of all members were read. What a member that is not read is assumed to map was
  // true then. Empty: all members are read, or nobody asks when.
  std::optional<std::chrono::system_clock::time_point> signals_at = std::nullopt;
  // Counts each member's breaks in Member::break_pages.
  bool count_breaks = false;
  Needs needs = {};
};

}  // namespace cow::memory
