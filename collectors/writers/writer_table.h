// Numbers the code that faults come from: the instruction, and its callers if stacks were taken. Equal code has one
// number, also in different processes that map the same file. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <tuple>
#include <vector>

#include "collectors/symbols/code_maps.h"
#include "collectors/writers/break_joiner.h"

namespace cow::writers {

class WriterTable {
 public:
  using Frames = std::vector<symbols::CodeLocation>;

  // Beyond `limit`, new code has the number kOverflow.
  explicit WriterTable(size_t limit = size_t{1} << 18U) : limit_(limit) {}
  static constexpr WriterId kOverflow = 0;

  // `frames`: the code first, then its callers.
  WriterId NumberOf(const Frames& frames);
  // Moves the frames of the numbers since the last call to the end of `frames`, which is indexed by number.
  void TakeNew(std::vector<Frames>& frames);

 private:
  using CodeId = uint32_t;
  // Kind, file, process of code that is no file's, offset or address.
  using CodeKey = std::tuple<symbols::CodeLocation::Kind, uint64_t, pid_t, uint64_t>;

  CodeId NumberOf(const symbols::CodeLocation& code);

  size_t limit_;
  std::map<CodeKey, CodeId> code_ids_;
  std::map<std::vector<CodeId>, WriterId> writer_ids_;
  std::vector<Frames> new_frames_{Frames{symbols::CodeLocation()}};  // kOverflow is unknown code
  WriterId next_ = 1;
};

}  // namespace cow::writers
