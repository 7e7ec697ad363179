// Clocks and fatal errors of cow_demo. Any process.
#pragma once

#include <ctime>

#include <cstdint>

namespace cow::demo {

inline constexpr int64_t kNanosecondsPerSecond = 1'000'000'000;

// Prints errno's message and exits with 1.
[[noreturn]] void Fail(const char* what);

// Returns nanoseconds.
int64_t Now(clockid_t clock);
// Sleeps until CLOCK_MONOTONIC has reached `deadline`, in nanoseconds. Returns early at a signal.
void SleepUntil(int64_t deadline);

}  // namespace cow::demo
