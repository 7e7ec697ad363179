// Spreads recurring work over time, so that tasks that ran together once do not run together again. Pure.
#pragma once

#include <chrono>
#include <cstdint>

namespace cow {

// Returns one of 17 evenly spaced times from time / 2 to `time`, selected by `number`.
inline std::chrono::milliseconds HalfToAll(std::chrono::milliseconds time, uint64_t number) {
  constexpr int64_t kParts = 16;
  return time * (kParts + static_cast<int64_t>(number % (kParts + 1))) / (2 * kParts);
}

}  // namespace cow
