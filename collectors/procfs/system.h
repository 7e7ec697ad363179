// Facts of the machine that hold as long as it runs, and of this process' rights on it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "collectors/base/result.h"
#include "collectors/procfs/root.h"

namespace cow::procfs {

// Sizes are read from the system, never assumed. A window is what one PMD maps: the range that the kernel reads under
// one hold of the target's mmap lock when pagemap is read (PAGEMAP_WALK_SIZE in fs/proc/task_mmu.c).
struct PageGeometry {
  size_t page_bytes = 4096;
  size_t huge_page_bytes = 2097152;

  size_t PagesPerWindow() const { return huge_page_bytes / page_bytes; }
  uint64_t PageOf(uint64_t address) const { return address / page_bytes; }
};

// Page size: AT_PAGESZ in root/self/auxv, else sysconf. Huge page size: root
// sys/kernel/mm/transparent_hugepage/hpage_pmd_size, else what one PMD maps with this page size (page_bytes / 8 *
// page_bytes). Malformed: not powers of two.
Result<PageGeometry> ReadPageGeometry(const Root& root);

// Clock ticks per second of stat's start time (AT_CLKTCK in root/self/auxv, else sysconf).
uint64_t ReadClockTicksPerSecond(const Root& root);

// Whole ticks from boot to now (CLOCK_BOOTTIME), as stat counts a start time.
uint64_t TicksSinceBoot(uint64_t ticks_per_second);

// Seconds since the epoch at which the system booted: `btime` of root/stat.
Result<uint64_t> ReadBootTimeSeconds(const Root& root);

// AnonPages of root/meminfo in bytes: distinct anonymous memory of the whole host.
Result<uint64_t> ReadAnonPagesBytes(const Root& root);

// Whether a /proc read from here shows every process of the host with all details: CapEff of root/self/status holds
// CAP_SYS_ADMIN, CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH, root/self/ns/pid and root/self/ns/user are the initial
// namespaces (inode numbers 4026531836 and 4026531837 in include/linux/proc_ns.h), and no hidepid or subset option is
// on the procfs mount of `root` (root/self/mountinfo). Anything that can't be read counts as "not everything".
bool SeesEveryProcess(const Root& root);

// Own capabilities, from CapEff; empty where it can't be read.
std::optional<uint64_t> ReadEffectiveCapabilities(const Root& root);

// No page has this frame.
inline constexpr uint64_t kNoZeroPage = (uint64_t{1} << 55) - 1;

// The frame of the 4 KiB (base) zero page: read-faults one page of this process and looks it up in root/self/pagemap.
// It is constant until reboot. kNoZeroPage where the kernel has none, and gives each page that is read a frame of its
// own (bit 56 tells). Empty where frames can't be seen, or where `root` is not this system's procfs.
std::optional<uint64_t> FindZeroPageFrame(const Root& root, const PageGeometry& geometry);

// Device numbers (major, minor) of the filesystems that the kernel mounts for hugetlb memory without a file: memfd,
// System V, MAP_HUGETLB. One for each size of huge pages, the same until reboot; found by an empty memfd of each. Empty
// where that can't be made, or where `root` is not this system's procfs.
std::optional<std::vector<std::pair<uint32_t, uint32_t>>> FindKernelHugetlb(const Root& root);

// Physical addresses, `last` included.
struct PhysicalRange {
  uint64_t first = 0;
  uint64_t last = 0;
};

// Where the kernel's own code and data are ("Kernel …" in root/iomem): they may have been put anywhere in memory at
// boot. Empty where the file can't be read or its addresses are hidden (they need CAP_SYS_ADMIN).
std::vector<PhysicalRange> ReadKernelImage(const Root& root);

// Raises RLIMIT_NOFILE to its hard limit; one descriptor is kept per member of a family. Returns the limit in force.
uint64_t RaiseDescriptorLimit();

}  // namespace cow::procfs
