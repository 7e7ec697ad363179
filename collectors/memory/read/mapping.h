// A VMA with what it means for copy-on-write: its kind and what backs it.
//
// maps does not say which filesystem a file is on; shared memory and huge pages are told from files by the device's
// filesystem type.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "collectors/procfs/maps.h"
#include "collectors/procfs/mountinfo.h"
#include "collectors/procfs/root.h"

namespace cow::memory {

// Where a break happened, as the label `mapping` says it.
enum class MappingKind { kHeap, kStack, kAnon, kFile, kShmem };
inline constexpr size_t kMappingKinds = 5;

struct Mapping {
  procfs::Vma vma;
  MappingKind kind = MappingKind::kAnon;
  bool hugetlb = false;

  bool IsPrivate() const { return !vma.shared; }
  // A private mapping of a file or of shared memory: its pages are the page cache's until the process writes to them.
  // The vDSO is the kernel's own.
  bool IsPrivateFile() const {
    return IsPrivate() && !hugetlb && (kind == MappingKind::kFile || kind == MappingKind::kShmem) &&
           !vma.path.starts_with('[');
  }
  // Nothing but anonymous memory can be here.
  bool IsAnonymous() const { return IsPrivate() && kind != MappingKind::kFile && kind != MappingKind::kShmem; }
};

// Which filesystems have the device numbers without a driver (major 0). Learned from mountinfo of the process that maps
// a file, then from that of this process. The kernel gives a number out again once its filesystem is gone, so what was
// learned holds for one pass. Filesystems that only the kernel mounts (hugetlb memory of memfd and System V) are in no
// mountinfo; theirs are found once, and stay. Any thread.
class DeviceTypes {
 public:
  using Device = std::pair<uint32_t, uint32_t>;  // major, minor
  enum class Type : uint8_t { kOther, kTmpfs, kHugetlbfs };

  explicit DeviceTypes(const procfs::Root& root);

  // Between passes: forgets what was learned.
  void BeginPass();

  // The types of all devices of major 0 that files among the VMAs of `task` are on. Reads mountinfo where one is new.
  std::map<Device, Type> Find(std::span<const procfs::Vma> vmas, procfs::TaskId task);

  // True if Find tells hugetlb memory of the kernel's own mounts from files.
  bool knows_kernel_hugetlb() const { return kernel_hugetlb_.has_value(); }

 private:
  struct Known {
    Type type = Type::kOther;
    bool in_mountinfo = false;  // else some process whose mountinfo was not read may know more of it
    uint32_t asked = 0;         // processes whose mountinfo did not have it
  };

  // Takes the devices that the file has out of `wanted`.
  void Learn(Result<procfs::MountinfoReader> mounts, std::set<Device>& wanted);

  procfs::Root root_;
  std::optional<std::vector<Device>> kernel_hugetlb_;
  std::mutex mutex_;
  std::map<Device, Known> known_;
};

// Classifies the VMAs of `task`. [vsyscall] is left out: it is the kernel's and pagemap can't read it.
std::vector<Mapping> ClassifyMappings(std::vector<procfs::Vma> vmas, procfs::TaskId task, DeviceTypes& devices);

// Both list the same ranges with the same rights.
bool AreAlike(std::span<const Mapping> a, std::span<const Mapping> b);

// Bytes of heap that a list of mappings takes.
uint64_t BytesOf(const std::vector<Mapping>& mappings);

// The mapping that holds an address, or null. `mappings` in ascending order.
const Mapping* FindMapping(std::span<const Mapping> mappings, uint64_t address);

}  // namespace cow::memory
