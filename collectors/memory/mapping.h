// A VMA with what it means for copy-on-write: its kind and what backs it.
//
// maps does not say which filesystem a file is on; shared memory and huge pages are told from files by the device's
// filesystem type (mountinfo). Not thread-safe.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
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
  bool IsPrivateFile() const {
    return IsPrivate() && !hugetlb && (kind == MappingKind::kFile || kind == MappingKind::kShmem);
  }
  // Nothing but anonymous memory can be here.
  bool IsAnonymous() const { return IsPrivate() && kind != MappingKind::kFile && kind != MappingKind::kShmem; }
};

// Which device numbers belong to tmpfs and hugetlbfs; learnt from mountinfo of this process, and of others where a
// device is new.
class DeviceTypes {
 public:
  explicit DeviceTypes(const procfs::Root& root);

  bool IsTmpfs(const procfs::Vma& vma, procfs::TaskId task) { return Has(tmpfs_, vma, task); }
  bool IsHugetlbfs(const procfs::Vma& vma, procfs::TaskId task) { return Has(hugetlbfs_, vma, task); }

 private:
  using Device = std::pair<uint32_t, uint32_t>;
  bool Has(const std::set<Device>& devices, const procfs::Vma& vma, procfs::TaskId task);
  void Learn(const std::vector<procfs::Mount>& mounts);

  procfs::Root root_;
  std::set<Device> known_;
  std::set<Device> tmpfs_;
  std::set<Device> hugetlbfs_;
};

// Classifies the VMAs of `pid`. [vsyscall] is left out: it is the kernel's and pagemap can't read it.
std::vector<Mapping> ClassifyMappings(std::vector<procfs::Vma> vmas, procfs::TaskId task, DeviceTypes& devices);

// The mapping that holds an address, or null. `mappings` in ascending order.
const Mapping* FindMapping(std::span<const Mapping> mappings, uint64_t address);

}  // namespace cow::memory
