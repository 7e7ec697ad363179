// Reads /proc/PID/smaps and smaps_rollup, the kernel's own split of memory, in bytes. Needs ptrace read permission. Any
// thread.
//
// The kernel holds the target's mmap lock over a whole VMA while it answers, about 50 ns per mapped page. Use these
// files only on kernels without PAGEMAP_SCAN, as witnesses and in tests.
#pragma once

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
  uint64_t rss_bytes = 0;
  uint64_t swap_bytes = 0;
};

Result<std::vector<SmapsVma>> ReadSmaps(const Root& root, TaskId task);
Result<std::vector<SmapsVma>> ParseSmaps(std::string_view text, const std::string& path);

// The sums over all VMAs, from /proc/PID/smaps_rollup (4.14 and later). A field is empty if the kernel lacks it; those
// of 4.14 are never empty.
struct SmapsRollup {
  std::optional<uint64_t> rss_bytes;
  std::optional<uint64_t> pss_bytes;
  std::optional<uint64_t> shared_clean_bytes;
  std::optional<uint64_t> shared_dirty_bytes;
  std::optional<uint64_t> private_clean_bytes;
  std::optional<uint64_t> private_dirty_bytes;
  std::optional<uint64_t> anonymous_bytes;
  std::optional<uint64_t> lazy_free_bytes;
  std::optional<uint64_t> anon_huge_bytes;
  std::optional<uint64_t> shared_hugetlb_bytes;   // not included in rss_bytes
  std::optional<uint64_t> private_hugetlb_bytes;  // not included in rss_bytes
  std::optional<uint64_t> swap_bytes;
  std::optional<uint64_t> swap_pss_bytes;
  std::optional<uint64_t> pss_anon_bytes;   // 5.3 and later
  std::optional<uint64_t> pss_file_bytes;   // 5.3 and later
  std::optional<uint64_t> pss_shmem_bytes;  // 5.3 and later
  std::optional<uint64_t> pss_dirty_bytes;  // 6.0 and later
  std::optional<uint64_t> ksm_bytes;        // the newest field
};

// Holds the target's mmap lock over at least a whole VMA, so callers must bound the process' size. kGone: the address
// space ended. kMalformed: among others, a field that 4.14 has is missing.
Result<SmapsRollup> ReadSmapsRollup(const Root& root, TaskId task);
Result<SmapsRollup> ParseSmapsRollup(std::string_view text, const std::string& path);

}  // namespace cow::procfs
