// Reads CLOCK_MONOTONIC, the clock of recorded page faults. Any thread.
#pragma once

#include <cstdint>
#include <ctime>

#include "collectors/base/cpu_clock.h"

namespace cow {

// In nanoseconds.
inline uint64_t MonotonicNs() { return static_cast<uint64_t>(ReadCpuClock(CLOCK_MONOTONIC).count()); }

}  // namespace cow
