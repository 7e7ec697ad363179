// Reads /proc/PID/auxv, the facts that exec told a program at its start: addresses of the program, its loader, the vdso
// and its stack. fork copies them, exec draws them anew, and only prctl PR_SET_MM changes them. Needs ptrace read
// permission (since Linux 6.15 CAP_PERFMON replaces it) and, for another user's process, CAP_DAC_READ_SEARCH. Takes
// about 5 µs, whatever the process maps. Any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "collectors/base/result.h"
#include "collectors/procfs/root.h"

namespace cow::procfs {

class AuxiliaryVector {
 public:
  // Parses pairs of type and value up to AT_NULL. Their words have 64 bits, or 32 bits in a process that runs a 32-bit
  // program.
  explicit AuxiliaryVector(std::string_view bytes);

  // `type`: an AT_ constant of <elf.h>. Empty if the vector has no such value.
  std::optional<uint64_t> Find(uint64_t type) const;

 private:
  std::vector<std::pair<uint64_t, uint64_t>> values_;
};

// `path`: an auxv file below `root`. A process without memory has an empty vector.
Result<AuxiliaryVector> ReadAuxiliaryVector(const Root& root, const std::string& path);

}  // namespace cow::procfs
