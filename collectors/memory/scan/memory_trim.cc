#include "collectors/memory/scan/memory_trim.h"

#include <malloc.h>
#include <unistd.h>

#include <algorithm>

#include "collectors/procfs/root.h"
#include "collectors/procfs/statm.h"

namespace cow::memory {
namespace {

constexpr uint64_t kFallBytes = uint64_t{2} << 20;
constexpr uint64_t kGrowthBytes = uint64_t{8} << 20;
constexpr int kRestPerTime = 100;

uint64_t ResidentBytes() {
  const auto statm = procfs::ReadStatm(procfs::Root(), getpid());
  return statm ? statm->resident_pages * static_cast<uint64_t>(sysconf(_SC_PAGESIZE)) : 0;
}

}  // namespace

void MemoryTrim::AfterPass(uint64_t used_bytes) {
  most_used_bytes_ = std::max(most_used_bytes_, used_bytes);
  const Clock::time_point begin = Clock::now();
  if (begin < next_) return;
  const bool fell = used_bytes + kFallBytes <= most_used_bytes_;
  if (!fell && ResidentBytes() < resident_bytes_ + kGrowthBytes) return;
  malloc_trim(0);
  most_used_bytes_ = used_bytes;
  resident_bytes_ = ResidentBytes();
  const Clock::time_point end = Clock::now();
  next_ = end + kRestPerTime * (end - begin);
}

}  // namespace cow::memory
