// Identifies a process's address-space layout, and finds its program. Reads /proc/PID/stat, auxv, exe and maps. Units:
// addresses in bytes. What permission hides is empty. Any thread.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>

#include "collectors/procfs/root.h"
#include "collectors/procfs/stat.h"

namespace cow::memory {

// Where layouts are read. A process and its child must be read in one way, also if one of them belongs to another user.
enum class LayoutSource {
  kStat,             // stat; where it hides a layout, auxv
  kAuxiliaryVector,  // auxv only: stat hides the layouts of other users' processes, and auxv does not
};

// The addresses that fork copies and exec draws anew. Equal keys make two processes candidates for one family only.
struct LayoutKey {
  uint64_t start_code = 0;
  uint64_t end_code = 0;
  uint64_t start_data = 0;
  uint64_t end_data = 0;
  uint64_t start_brk = 0;
  uint64_t start_stack = 0;

  // Empty if permission hides the layout.
  static std::optional<LayoutKey> Of(const procfs::Stat& stat);
  // True if both share an address that exec draws at random: one may be the other after prctl PR_SET_MM changed some
  // fields.
  bool Resembles(const LayoutKey& other) const;
  auto operator<=>(const LayoutKey&) const = default;  // NOLINT(modernize-use-nullptr): mistaken by clang-tidy 14
};

// `stat`: of this task, read just now. Empty if permission hides the layout or the task has no memory.
std::optional<LayoutKey> ReadLayout(const procfs::Root& root, const procfs::Stat& stat, procfs::TaskId task,
                                    LayoutSource source);

// Returns the path of the task's program: the target of exe. Where permission hides it, the file that is mapped at the
// program's entry. Empty if both are hidden.
std::string ReadProgram(const procfs::Root& root, procfs::TaskId task);

}  // namespace cow::memory
