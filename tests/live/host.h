// Settings of the whole host that a test changes, and objects that it adds to the host. The destructors restore the
// host. Sizes are bytes if the name says so. Use them from one thread.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

namespace cow::live {

// A file with one value in /proc/sys or /sys. Writes the value at once and restores the old one at the end.
class HostSetting {
 public:
  // Throws std::runtime_error if the file does not exist or can't be written.
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
// Returns the number after `name` on a line of its own, as in /proc/vmstat; 0 if there is none.
uint64_t HostCounter(const std::string& path, const std::string& name);

// Raises the priority of a kernel thread (ksmd, khugepaged), which is low by default, so that it runs on a busy host.
class HurriedThread {
 public:
  explicit HurriedThread(const std::string& name);
  ~HurriedThread();
  HurriedThread(const HurriedThread&) = delete;
  HurriedThread& operator=(const HurriedThread&) = delete;

 private:
  pid_t pid_ = 0;  // 0: no such thread
  int before_ = 0;
};

// A swap area in its own file. Its pages come back into RAM at the end.
class SwapArea {
 public:
  SwapArea(std::string path, uint64_t bytes);
  ~SwapArea();
  SwapArea(const SwapArea&) = delete;
  SwapArea& operator=(const SwapArea&) = delete;

  // Why there is no swap area; empty if there is one.
  const std::string& why_not() const { return why_not_; }

 private:
  std::string path_;
  std::string why_not_;
};

// A memory cgroup (version 1 or 2) for processes whose memory is to be reclaimed, including pages that several of them
// share: madvise skips such pages. At the end its processes return to the test's own cgroup.
class ReclaimGroup {
 public:
  explicit ReclaimGroup(const std::string& name);
  ~ReclaimGroup();
  ReclaimGroup(const ReclaimGroup&) = delete;
  ReclaimGroup& operator=(const ReclaimGroup&) = delete;

  const std::string& why_not() const { return why_not_; }
  // Moves the process: memory that it faults in later is charged to the cgroup, and its children start there.
  void Add(pid_t pid) const;
  // Makes the kernel reclaim as much as it can.
  void Reclaim() const;

 private:
  std::string path_;
  std::string parent_;
  bool version_2_ = false;
  std::string why_not_;
};

}  // namespace cow::live
