// Reads the CPU clocks of threads. Any thread.
#pragma once

#include <chrono>
#include <ctime>

namespace cow {

inline std::chrono::nanoseconds ReadCpuClock(clockid_t clock) {
  timespec time{};
  clock_gettime(clock, &time);
  return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

// CPU time of the calling thread.
inline std::chrono::nanoseconds ThreadCpuTime() { return ReadCpuClock(CLOCK_THREAD_CPUTIME_ID); }

}  // namespace cow
