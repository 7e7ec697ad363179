// What a scan is asked for. Plain values.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>

namespace cow::memory {

// What is read besides the windows, if a collector needs it: the union of what all of them need is read once.
struct Needs {
  // smaps_rollup of members that are no larger than this, resident and swapped; empty: of none.
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
  // A member is read at least this often, also if nothing of it seems to have changed. 0: in every pass.
  std::chrono::milliseconds full_every{0};
  // The observer lacks what it was shown before: everything is read and shown again.
  bool show_all = false;
  // What a member breaks is counted with it (Member::break_pages).
  bool count_breaks = false;
  Needs needs = {};
};

}  // namespace cow::memory
