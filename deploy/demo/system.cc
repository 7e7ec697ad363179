#include "deploy/demo/system.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

namespace cow::demo {

[[noreturn]] void Fail(const char* what) {
  std::fprintf(stderr, "cow_demo: %s: %s\n", what, strerrordesc_np(errno));
  _exit(1);
}

int64_t Now(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return int64_t{now.tv_sec} * kNanosecondsPerSecond + now.tv_nsec;
}

void SleepUntil(int64_t deadline) {
  const timespec when{.tv_sec = deadline / kNanosecondsPerSecond, .tv_nsec = deadline % kNanosecondsPerSecond};
  clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &when, nullptr);
}

}  // namespace cow::demo
