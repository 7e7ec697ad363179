// /proc/PID/maps: the VMAs of a process. Needs ptrace read permission. An empty file belongs to a zombie (or kernel
// thread) and is reported as kGone. Any thread.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "collectors/procfs/result.h"
#include "collectors/procfs/root.h"

namespace cow::procfs {

struct Vma {
  uint64_t start = 0;  // address of the first byte
  uint64_t end = 0;    // address past the last byte
  bool readable = false;
  bool writable = false;
  bool executable = false;
  bool shared = false;  // MAP_SHARED; false is private (copy-on-write)
  uint64_t offset_bytes = 0;
  uint32_t device_major = 0;
  uint32_t device_minor = 0;
  uint64_t inode = 0;
  std::string path;  // "/usr/bin/x", "[heap]", "[stack]", "/memfd:x (deleted)", or empty; \012 escapes are kept

  uint64_t SizeBytes() const { return end - start; }
};

// VMAs in ascending order of address, never overlapping (anything else is kMalformed).
Result<std::vector<Vma>> ReadMaps(const Root& root, TaskId task);
Result<std::vector<Vma>> ParseMaps(std::string_view text, const std::string& path);

// One line of maps, which is also the first line of each VMA of smaps.
Result<Vma> ParseMapsLine(std::string_view line, const std::string& path);

}  // namespace cow::procfs
