// Reads /proc/PID/maps, the VMAs of a process. Needs ptrace read permission. An empty file belongs to a zombie or a
// kernel thread and is kGone. Any thread; a MapsReader belongs to one thread.
//
// A process can make this file very long: one VMA per page, each with a path longer than any that can be opened. The
// reader therefore streams the text, keeps kMaxPathBytes of each path and fails with kTooLarge beyond the limits.
#pragma once

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

// The longest path that can be opened (PATH_MAX).
inline constexpr size_t kMaxPathBytes = 4096;

struct MapsLimits {
  uint64_t max_bytes = uint64_t{16} << 20;  // text; reading it takes 45 ms
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
  // "/usr/bin/x", "[heap]", "[stack]", "/memfd:x (deleted)", or empty. Keeps \012 escapes; cut after kMaxPathBytes.
  std::string path;

  uint64_t SizeBytes() const { return end - start; }
};

// Reads VMA by VMA. Addresses ascend and never overlap; otherwise Next fails with kMalformed.
class MapsReader {
 public:
  static Result<MapsReader> Open(const Root& root, TaskId task, MapsLimits limits = {});

  // Stores the next VMA in `vma`. At the end returns false and leaves `vma` unchanged.
  Result<bool> Next(Vma& vma);

 private:
  MapsReader(LineReader lines, size_t max_vmas) : lines_(std::move(lines)), max_vmas_(max_vmas) {}

  LineReader lines_;
  size_t max_vmas_;
  size_t vmas_ = 0;
  uint64_t previous_end_ = 0;
};

// Reads all VMAs.
Result<std::vector<Vma>> ReadMaps(const Root& root, TaskId task, MapsLimits limits = {});

// Parses one line of maps. The first line of each VMA in smaps has the same format.
Result<Vma> ParseMapsLine(std::string_view line, const std::string& path);

}  // namespace cow::procfs
