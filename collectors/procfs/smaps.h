// /proc/PID/smaps: the kernel's own split of each VMA. The kernel holds the target's mmap lock over a whole VMA while
// it answers, at about 50 ns per mapped page: only for kernels without PAGEMAP_SCAN, for witnesses and for tests.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "collectors/base/result.h"
#include "collectors/procfs/maps.h"
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

// /proc/PID/smaps_rollup (4.14 and later): the sums over all VMAs. What a later kernel added is empty where it is
// lacking.
struct SmapsRollup {
  uint64_t rss_bytes = 0;
  uint64_t pss_bytes = 0;
  uint64_t shared_clean_bytes = 0;
  uint64_t shared_dirty_bytes = 0;
  uint64_t private_clean_bytes = 0;
  uint64_t private_dirty_bytes = 0;
  uint64_t referenced_bytes = 0;
  uint64_t anonymous_bytes = 0;
  uint64_t lazy_free_bytes = 0;
  uint64_t anon_huge_bytes = 0;
  uint64_t shmem_huge_bytes = 0;      // ShmemPmdMapped
  uint64_t shared_hugetlb_bytes = 0;  // not in rss_bytes, as the next
  uint64_t private_hugetlb_bytes = 0;
  uint64_t swap_bytes = 0;
  uint64_t swap_pss_bytes = 0;
  uint64_t locked_bytes = 0;               // proportional, as pss_bytes
  std::optional<uint64_t> pss_anon_bytes;  // 5.3, as the next two
  std::optional<uint64_t> pss_file_bytes;
  std::optional<uint64_t> pss_shmem_bytes;
  std::optional<uint64_t> file_huge_bytes;  // FilePmdMapped, 5.4
  std::optional<uint64_t> pss_dirty_bytes;  // 6.0
  std::optional<uint64_t> ksm_bytes;        // the youngest
};

// The kernel holds the target's mmap lock over a whole VMA at least: callers bound the size.
// kGone: no address space any more. kMalformed also where a field is missing that 4.14 had.
Result<SmapsRollup> ReadSmapsRollup(const Root& root, TaskId task);
Result<SmapsRollup> ParseSmapsRollup(std::string_view text, const std::string& path);

}  // namespace cow::procfs
