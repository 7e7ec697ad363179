// What a watch has found: which code broke how many pages. Plain values. Pages are base pages.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "collectors/memory/read/mapping.h"
#include "collectors/symbols/symbolizer.h"
#include "collectors/writers/break_joiner.h"

namespace cow::writers {

// The pages that one place in the code broke.
struct Writer {
  std::vector<symbols::Symbol> frames;  // the code first, then its callers if stacks were taken; never empty
  Side side = Side::kUnknown;
  memory::MappingKind mapping = memory::MappingKind::kAnon;
  uint64_t pages = 0;    // broken; 0 if nothing was judged
  uint64_t records = 0;  // attributed; all records of this code if nothing was judged

  const symbols::Symbol& code() const { return frames.front(); }
};

struct Report {
  pid_t pid = 0;     // of the process asked for
  std::string name;  // its comm: any bytes
  size_t page_bytes = 0;
  size_t members = 0;  // most members of the family at a look
  double seconds = 0;  // from the first look to the last
  uint32_t one_in = 1;
  bool judged = true;           // false: page frames are hidden, so no look can tell a break
  bool ended = false;           // the process ended while it was watched
  std::vector<Writer> writers;  // largest first, by `pages`, or by `records` if nothing was judged

  uint64_t broken_pages = 0;  // as the looks judged; attributed + unexplained
  uint64_t unexplained_pages = 0;
  uint64_t records = 0;  // attributed + fresh + repeated
  uint64_t attributed_records = 0;
  uint64_t repeated_records = 0;
  std::array<uint64_t, kFreshKinds> fresh_records{};
  uint64_t lost_records = 0;     // dropped by the kernel, or for lack of memory here
  size_t unwatched_threads = 0;  // for lack of descriptors
  bool kernel_faults = true;     // false: faults of system calls are not recorded, because rights are missing
};

void SortLargestFirst(std::vector<Writer>& writers);

// Returns the frame that says what the code was for: the first caller outside of the C library if the code is its, and
// the first user code if the code is the kernel's. The code itself if no such caller is known.
const symbols::Symbol& PurposeOf(const Writer& writer);

// Merges writers with the same code and the same purpose; where the function is known, its places count as one, and the
// offset is the one with the most pages. Their frames are the code, and its purpose if that is another one. Largest
// first.
std::vector<Writer> MergeCallers(const Report& report);

}  // namespace cow::writers
