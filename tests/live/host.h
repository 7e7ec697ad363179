// Settings of the whole host that a test changes, and what it adds to the host: all is as it was when these objects
// end. Units: bytes where a name says so. Used by one thread.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

namespace cow::live {

// A file of one value, as in /proc/sys and /sys: the value is written at once, and the old one at the end.
class HostSetting {
 public:
  // Throws std::runtime_error if there is no such file or it can't be written to.
  HostSetting(std::string path, const std::string& value);
  ~HostSetting();
  HostSetting(const HostSetting&) = delete;
  HostSetting& operator=(const HostSetting&) = delete;

  void Set(const std::string& value) const;
  uint64_t Number() const;

 private:
  std::string path_;
  std::string before_;
};

std::string ReadHostFile(const std::string& path);
bool WriteHostFile(const std::string& path, const std::string& value);
// The number after `name` on a line of its own, as in /proc/vmstat; 0 if there is none.
uint64_t HostCounter(const std::string& path, const std::string& name);

// A swap area in a file of its own. What is in it comes back at the end.
class SwapArea {
 public:
  SwapArea(std::string path, uint64_t bytes);
  ~SwapArea();
  SwapArea(const SwapArea&) = delete;
  SwapArea& operator=(const SwapArea&) = delete;

  // Why there is none; empty if there is.
  const std::string& why_not() const { return why_not_; }

 private:
  std::string path_;
  std::string why_not_;
};

// A memory cgroup (version 1 or 2) for processes whose memory is to be reclaimed, also what several of them share:
// madvise leaves such pages alone. Its processes go back to the test's own cgroup at the end.
class ReclaimGroup {
 public:
  explicit ReclaimGroup(const std::string& name);
  ~ReclaimGroup();
  ReclaimGroup(const ReclaimGroup&) = delete;
  ReclaimGroup& operator=(const ReclaimGroup&) = delete;

  const std::string& why_not() const { return why_not_; }
  // Memory that it faults from now on is the group's; children begin there.
  void Add(pid_t pid) const;
  // Has the kernel reclaim what it can.
  void Reclaim() const;

 private:
  std::string path_;
  std::string parent_;
  bool version_2_ = false;
  std::string why_not_;
};

}  // namespace cow::live
