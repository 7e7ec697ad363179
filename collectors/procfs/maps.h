// /proc/PID/maps: the VMAs of a process. Needs ptrace read permission. An empty file belongs to a zombie (or kernel
// thread) and is reported as kGone. Any thread.
//
// A process makes this file as long as it likes: one VMA for each page, and in each line a path that no name can open
// any more. The text is read as a stream, a path is kept up to kMaxPathBytes, and a file beyond the limits is
// kTooLarge.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "collectors/base/result.h"
#include "collectors/procfs/line_reader.h"
#include "collectors/procfs/root.h"

namespace cow::procfs {

// What a path may have for a name to open it (PATH_MAX).
inline constexpr size_t kMaxPathBytes = 4096;

struct MapsLimits {
  uint64_t max_bytes = uint64_t{16} << 20;  // of text: 45 ms of reading
  size_t max_vmas = 131072;                 // twice the default of vm.max_map_count
};

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
  // "/usr/bin/x", "[heap]", "[stack]", "/memfd:x (deleted)", or empty; \012 escapes are kept. Its first kMaxPathBytes.
  std::string path;

  uint64_t SizeBytes() const { return end - start; }
};

// Reads VMA by VMA, in ascending order of address, never overlapping (anything else is kMalformed).
class MapsReader {
 public:
  static Result<MapsReader> Open(const Root& root, TaskId task, MapsLimits limits = {});

  // False at the end; `vma` is then as it was.
  Result<bool> Next(Vma& vma);

 private:
  MapsReader(LineReader lines, size_t max_vmas) : lines_(std::move(lines)), max_vmas_(max_vmas) {}

  LineReader lines_;
  size_t max_vmas_;
  size_t vmas_ = 0;
  uint64_t previous_end_ = 0;
};

// All of them.
Result<std::vector<Vma>> ReadMaps(const Root& root, TaskId task, MapsLimits limits = {});

// One line of maps, which is also the first line of each VMA of smaps.
Result<Vma> ParseMapsLine(std::string_view line, const std::string& path);

}  // namespace cow::procfs
