// /proc/PID/smaps: the kernel's own split of each VMA. The kernel holds the target's mmap lock over a whole VMA while
// it answers, at about 50 ns per mapped page: only for kernels without PAGEMAP_SCAN, for witnesses and for tests.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string_view>
#include <vector>

#include "collectors/procfs/maps.h"
#include "collectors/procfs/result.h"
#include "collectors/procfs/root.h"

namespace cow::procfs {

struct SmapsVma {
  Vma vma;
  uint64_t kernel_page_bytes = 0;
  uint64_t rss_bytes = 0;
  uint64_t pss_bytes = 0;
  uint64_t shared_clean_bytes = 0;
  uint64_t shared_dirty_bytes = 0;
  uint64_t private_clean_bytes = 0;
  uint64_t private_dirty_bytes = 0;
  uint64_t anonymous_bytes = 0;
  uint64_t anon_huge_bytes = 0;
  uint64_t swap_bytes = 0;
};

Result<std::vector<SmapsVma>> ReadSmaps(const Root& root, TaskId task);
Result<std::vector<SmapsVma>> ParseSmaps(std::string_view text, const std::string& path);

// /proc/PID/smaps_rollup: the sums of all VMAs in one SmapsVma, whose `vma` spans the address space.
Result<SmapsVma> ReadSmapsRollup(const Root& root, TaskId task);

}  // namespace cow::procfs
