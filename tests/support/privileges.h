// Explains why a test can't run here. Probes the rights of this process and its view of the host without the code under
// test. The texts match those of tests/e2e/privileges.py; tests/run compares them. Any thread.
#pragma once

#include <fcntl.h>
#include <linux/perf_event.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <fstream>
#include <string>
#include <string_view>

#include "tests/support/child_process.h"

namespace cow::test {

inline constexpr std::string_view kPageFrames = "page frames of other processes";
inline constexpr std::string_view kHostProcesses = "every process of the host";
inline constexpr std::string_view kZombies = "files of ended processes";
inline constexpr std::string_view kForkEvents = "the kernel's fork events";
inline constexpr std::string_view kTaskReports = "the kernel's reports of ended tasks";
inline constexpr std::string_view kOtherUsers = "to become another user";
inline constexpr std::string_view kPids = "to choose PIDs";
inline constexpr std::string_view kNetworkNamespace = "a network namespace";
inline constexpr std::string_view kPidNamespace = "a PID namespace";
inline constexpr std::string_view kPerformanceEvents = "performance events";
inline constexpr std::string_view kMounts = "mounts of its own";
inline constexpr std::string_view kMemoryCgroup = "a memory cgroup";

inline std::string MissingPrivilege(std::string_view name) { return "missing privilege: " + std::string(name); }

// Returns the word of a page in a file with one 64-bit word per page; 0 if it can't be read.
inline uint64_t WordOfPage(const std::string& path, uint64_t page) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  uint64_t word = 0;
  if (pread(file, &word, sizeof(word), static_cast<off_t>(page * sizeof(word))) != sizeof(word)) word = 0;
  close(file);
  return word;
}

// Empty if the frame numbers of another process and the kernel's words of such a frame are readable.
inline std::string WhyNoPageFrames() {
  static const std::string why = [] {
    volatile char shared = 1;  // in a page that the child has too
    const ChildProcess child([](const ChildProcess::Steps& steps) { return steps.AwaitGo() ? 0 : 1; });
    const auto page = reinterpret_cast<uintptr_t>(&shared) / static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
    constexpr uint64_t kFrameMask = (uint64_t{1} << 55U) - 1;
    const uint64_t frame = WordOfPage("/proc/" + std::to_string(child.pid()) + "/pagemap", page) & kFrameMask;
    const bool seen =
        frame != 0 && WordOfPage("/proc/kpageflags", frame) != 0 && WordOfPage("/proc/kpagecount", frame) != 0;
    return seen ? std::string() : MissingPrivilege(kPageFrames);
  }();
  return why;
}

// Empty if this process sees all others; verdicts that use fork evidence need that. Kernel threads are visible only
// from the host's own PID namespace.
inline std::string WhyNoHostProcesses() {
  std::string name;
  std::getline(std::ifstream("/proc/2/comm"), name);
  return name == "kthreadd" ? std::string() : MissingPrivilege(kHostProcesses);
}

// Empty if the files of an ended, unreaped process can be opened or are gone; they belong to root.
inline std::string WhyNoZombies() {
  const ChildProcess child([](const ChildProcess::Steps&) { return 0; });
  child.AwaitZombie();
  const int file = open(("/proc/" + std::to_string(child.pid()) + "/pagemap").c_str(), O_RDONLY | O_CLOEXEC);
  const bool denied = file < 0 && errno == EACCES;
  close(file);
  return denied ? MissingPrivilege(kZombies) : std::string();
}

// Empty if this process may count the faults of a process, kernel code included.
inline std::string WhyNoPerformanceEvents() {
  perf_event_attr attributes{};
  attributes.size = PERF_ATTR_SIZE_VER0;
  attributes.type = PERF_TYPE_SOFTWARE;
  attributes.config = PERF_COUNT_SW_PAGE_FAULTS_MIN;
  const auto event = static_cast<int>(syscall(SYS_perf_event_open, &attributes, 0, -1, -1, 0));
  if (event >= 0) close(event);
  if (event < 0 && errno == ENOSYS) return "missing kernel feature: performance events";
  return event >= 0 ? std::string() : MissingPrivilege(kPerformanceEvents);
}

}  // namespace cow::test
