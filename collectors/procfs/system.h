// Reads facts that stay true until reboot, and the rights of this process. The comment of each function names its file.
// Any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "collectors/base/page_numbers.h"
#include "collectors/base/result.h"
#include "collectors/procfs/root.h"

namespace cow::procfs {

// Page sizes as the system reports them. A window is the range that one PMD maps. A pagemap read holds the target's
// mmap lock for one window at a time (PAGEMAP_WALK_SIZE in fs/proc/task_mmu.c).
struct PageGeometry {
  size_t page_bytes = 4096;
  size_t huge_page_bytes = 2097152;

  size_t PagesPerWindow() const { return huge_page_bytes / page_bytes; }
  PageNumber PageOf(uint64_t address) const { return PageNumber(address / page_bytes); }
  uint64_t PagesOf(uint64_t bytes) const { return bytes / page_bytes; }
};

// Reads the page size from AT_PAGESZ in root/self/auxv, else from sysconf. Reads the huge page size from
// SYSFS/kernel/mm/transparent_hugepage/hpage_pmd_size; without that file it is the size that one PMD maps (page_bytes /
// 8 * page_bytes). kMalformed: a size is not a power of two.
Result<PageGeometry> ReadPageGeometry(const Root& root);
// The same for start-up: throws std::runtime_error instead of returning an error.
PageGeometry RequirePageGeometry(const Root& root);

// Returns the clock ticks per second in which stat counts a start time (AT_CLKTCK in root/self/auxv, else sysconf).
uint64_t ReadClockTicksPerSecond(const Root& root);

// Returns the whole ticks from boot to now (CLOCK_BOOTTIME), the unit of stat's start time.
uint64_t TicksSinceBoot(uint64_t ticks_per_second);

// Returns the boot time in seconds since the epoch: `btime` of root/stat.
Result<uint64_t> ReadBootTimeSeconds(const Root& root);

// Returns AnonPages of root/meminfo in bytes: the distinct anonymous memory of the whole host.
Result<uint64_t> ReadAnonPagesBytes(const Root& root);

// Returns true if this process sees every process of the host and the frames of those whose page tables it may read.
// That takes three things: CapEff of root/self/status has CAP_SYS_ADMIN and CAP_DAC_READ_SEARCH; root/self/ns/pid and
// root/self/ns/user are the initial namespaces (inodes 4026531836 and 4026531837 in include/linux/proc_ns.h); and the
// procfs mount of `root` has no hidepid or subset option (root/self/mountinfo). Returns false if one of these files
// can't be read.
bool SeesEveryProcess(const Root& root);

// Returns this process' capabilities from CapEff of root/self/status; empty if it can't be read.
std::optional<uint64_t> ReadEffectiveCapabilities(const Root& root);

// Returns the numbers of the processors that are online, in ascending order: root/devices/system/cpu/online.
Result<std::vector<int>> ReadOnlineProcessors(const Root& root);

// A frame number that no page has.
inline constexpr Pfn kNoZeroPage((uint64_t{1} << 55) - 1);

// Returns the frame of the base zero page, which is constant until reboot. Read-faults a page of this process and looks
// it up in root/self/pagemap. Returns kNoZeroPage if bit 56 shows that the kernel gave the page its own frame: such a
// kernel has no zero page. Empty if frames are hidden, or if `root` is not this system's procfs.
std::optional<Pfn> FindZeroPageFrame(const Root& root, const PageGeometry& geometry);

// Returns the device numbers (major, minor) of the filesystems that the kernel mounts internally for hugetlb memory of
// memfd, System V and MAP_HUGETLB. There is one per huge page size, constant until reboot. Creates an empty memfd of
// each size to find them. Empty if that fails, or if `root` is not this system's procfs.
std::optional<std::vector<std::pair<uint32_t, uint32_t>>> FindKernelHugetlb(const Root& root);

// A range of physical addresses, including `last`.
struct PhysicalRange {
  uint64_t first = 0;
  uint64_t last = 0;
};

// Returns the ranges of the kernel's own code and data ("Kernel …" in root/iomem), which boot can place anywhere in
// memory. Empty if the file can't be read or hides addresses (they need CAP_SYS_ADMIN).
std::vector<PhysicalRange> ReadKernelImage(const Root& root);

// Raises RLIMIT_NOFILE to its hard limit, because the exporter keeps descriptors open per family member. Returns the
// limit in force.
uint64_t RaiseDescriptorLimit();

}  // namespace cow::procfs
