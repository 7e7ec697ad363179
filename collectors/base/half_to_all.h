// Spreads what recurs over time, so that what was done at one time is not all done at one time again. Pure.
#pragma once

#include <chrono>
#include <cstdint>

namespace cow {

// From half of `time` to all of it, in 17 steps, by `number`.
inline std::chrono::milliseconds HalfToAll(std::chrono::milliseconds time, uint64_t number) {
  constexpr int64_t kParts = 16;
  return time * (kParts + static_cast<int64_t>(number % (kParts + 1))) / (2 * kParts);
}

}  // namespace cow
