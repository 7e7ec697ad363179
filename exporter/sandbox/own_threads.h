// Guards against threads that would keep what this process gives up: capabilities and Landlock domains belong to a
// thread. Any thread.
#pragma once

#include <sys/stat.h>

#include <stdexcept>

namespace cow::exporter {

// True if the process has other threads. False too if that can't be seen, and in builds with a sanitizer, which may
// have threads of its own.
inline bool HasOtherThreads() {
#ifdef COW_SANITIZED
  return false;
#else
  // A directory has a link from each directory in it, from its parent and from itself. Neither a Landlock domain nor a
  // process that is not dumpable forbids to ask.
  constexpr nlink_t kOneThread = 3;
  struct stat status {};
  return stat("/proc/self/task", &status) == 0 && status.st_nlink > kOneThread;
#endif
}

// Throws std::logic_error if the process has other threads.
inline void RequireOneThread() {
  if (HasOtherThreads()) throw std::logic_error("the process has other threads");
}

}  // namespace cow::exporter
