// Classifies VMAs by what they mean for copy-on-write: kind and backing. Reads /proc/PID/maps and mountinfo.
//
// maps does not name the filesystem of a file. The filesystem type of its device distinguishes shared memory and huge
// pages from files. Units: bytes and addresses.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "collectors/base/page_numbers.h"
#include "collectors/procfs/maps.h"
#include "collectors/procfs/mountinfo.h"
#include "collectors/procfs/root.h"
#include "collectors/procfs/system.h"

namespace cow::memory {

// The kinds of mappings, as in the label `mapping`.
enum class MappingKind { kHeap, kStack, kAnon, kFile, kShmem };
inline constexpr size_t kMappingKinds = 5;

struct Mapping {
  procfs::Vma vma;
  MappingKind kind = MappingKind::kAnon;
  bool hugetlb = false;

  bool IsPrivate() const { return !vma.shared; }
  // A private mapping of a file or of shared memory. Its pages are the page cache's until the process writes to them.
  // Excludes the vDSO, which is the kernel's.
  bool IsPrivateFile() const {
    return IsPrivate() && !hugetlb && (kind == MappingKind::kFile || kind == MappingKind::kShmem) &&
           !vma.path.starts_with('[');
  }
  // True if the mapping can contain anonymous memory only.
  bool IsAnonymous() const { return IsPrivate() && kind != MappingKind::kFile && kind != MappingKind::kShmem; }
};

// Finds the filesystem type of devices without a driver (major 0), from mountinfo of the process that maps a file, then
// of this process. The kernel reuses the number of a filesystem that is gone, so results hold for one pass. Filesystems
// that only the kernel mounts (hugetlb memory of memfd and System V) are in no mountinfo; they are found once and kept.
// Thread-safe.
class DeviceTypes {
 public:
  using Device = std::pair<uint32_t, uint32_t>;  // major, minor
  enum class Type : uint8_t { kOther, kTmpfs, kHugetlbfs };

  explicit DeviceTypes(const procfs::Root& root);

  // Forgets the results of the last pass. Call between passes.
  void BeginPass();

  // Returns the types of all major-0 devices among the VMAs of `task`. Reads mountinfo if one is new.
  std::map<Device, Type> Find(std::span<const procfs::Vma> vmas, procfs::TaskId task);

  // True if Find recognizes hugetlb memory of the kernel's own mounts.
  bool knows_kernel_hugetlb() const { return kernel_hugetlb_.has_value(); }

 private:
  struct Known {
    Type type = Type::kOther;
    bool in_mountinfo = false;  // false: an unread mountinfo may have it
    uint32_t asked = 0;         // mountinfo files read that did not have it
  };

  // Learns the devices that the file lists and removes them from `wanted`.
  void Learn(Result<procfs::MountinfoReader> mounts, std::set<Device>& wanted);

  procfs::Root root_;
  std::optional<std::vector<Device>> kernel_hugetlb_;
  std::mutex mutex_;
  std::map<Device, Known> known_;
};

// Classifies the VMAs of `task`. Omits [vsyscall], which is the kernel's and unreadable through pagemap.
std::vector<Mapping> ClassifyMappings(std::vector<procfs::Vma> vmas, procfs::TaskId task, DeviceTypes& devices);

// True if both have the same ranges with the same kinds and rights.
bool AreAlike(std::span<const Mapping> a, std::span<const Mapping> b);

// Heap bytes of a list of mappings.
uint64_t BytesOf(const std::vector<Mapping>& mappings);

// The index of the first mapping that ends beyond the address; mappings.size() if there is none. `mappings` ascend,
// here and below.
size_t FirstMapping(std::span<const Mapping> mappings, uint64_t address);

// The mapping that contains an address, or null.
const Mapping* FindMapping(std::span<const Mapping> mappings, uint64_t address);

// Calls visit(mapping, first page within the window, pages) for the mappings in the window, in ascending order.
// `mappings` ascend and begin with one that ends in the window or behind it.
template <class Visit>
void VisitMappings(const procfs::PageGeometry& geometry, std::span<const Mapping> mappings, WindowIndex window,
                   Visit&& visit) {
  const PageNumber begin = window.FirstPage(geometry.PagesPerWindow());
  const PageNumber end = begin + geometry.PagesPerWindow();
  for (const Mapping& mapping : mappings) {
    const PageNumber first = std::max(begin, geometry.PageOf(mapping.vma.start));
    const PageNumber last = std::min(end, geometry.PageOf(mapping.vma.end));
    if (first >= end) break;
    visit(mapping, static_cast<uint32_t>(first - begin), static_cast<uint32_t>(last - first));
  }
}

}  // namespace cow::memory
