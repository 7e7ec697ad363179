#include "collectors/memory/mapping.h"

#include <algorithm>
#include <string_view>

namespace cow::memory {
namespace {

MappingKind KindOf(const procfs::Vma& vma, procfs::TaskId task, DeviceTypes& devices) {
  const std::string_view path = vma.path;
  if (path == "[heap]") return MappingKind::kHeap;
  if (path == "[stack]" || path.starts_with("[stack:")) return MappingKind::kStack;
  if (path.empty() || path.starts_with("[anon:")) return vma.shared ? MappingKind::kShmem : MappingKind::kAnon;
  if (path.starts_with("[anon_shmem:") || path.starts_with("/memfd:") || path.starts_with("/SYSV") ||
      path.starts_with("/dev/zero")) {
    return MappingKind::kShmem;
  }
  if (path.front() == '/' && devices.IsTmpfs(vma, task)) return MappingKind::kShmem;
  return MappingKind::kFile;
}

}  // namespace

DeviceTypes::DeviceTypes(const procfs::Root& root) : root_(root) {
  if (const auto mounts = procfs::ReadSelfMountinfo(root)) Learn(*mounts);
}

void DeviceTypes::Learn(const std::vector<procfs::Mount>& mounts) {
  for (const procfs::Mount& mount : mounts) {
    const Device device(mount.device_major, mount.device_minor);
    known_.insert(device);
    if (mount.filesystem_type == "tmpfs" || mount.filesystem_type == "devtmpfs") tmpfs_.insert(device);
    if (mount.filesystem_type == "hugetlbfs") hugetlbfs_.insert(device);
  }
}

bool DeviceTypes::Has(const std::set<Device>& devices, const procfs::Vma& vma, procfs::TaskId task) {
  const Device device(vma.device_major, vma.device_minor);
  // Only unnamed devices (major 0) can be tmpfs or hugetlbfs; a container's own ones are in its mount namespace.
  if (device.first == 0 && known_.insert(device).second) {
    if (const auto mounts = procfs::ReadMountinfo(root_, task)) Learn(*mounts);
  }
  return devices.contains(device);
}

std::vector<Mapping> ClassifyMappings(std::vector<procfs::Vma> vmas, procfs::TaskId task, DeviceTypes& devices) {
  std::vector<Mapping> mappings;
  mappings.reserve(vmas.size());
  for (procfs::Vma& vma : vmas) {
    if (vma.path == "[vsyscall]") continue;
    Mapping mapping;
    mapping.kind = KindOf(vma, task, devices);
    const bool anonymous_huge = vma.path.starts_with("/anon_hugepage");
    mapping.hugetlb = anonymous_huge || (vma.inode != 0 && devices.IsHugetlbfs(vma, task));
    if (anonymous_huge) mapping.kind = vma.shared ? MappingKind::kShmem : MappingKind::kAnon;
    mapping.vma = std::move(vma);
    mappings.push_back(std::move(mapping));
  }
  return mappings;
}

const Mapping* FindMapping(std::span<const Mapping> mappings, uint64_t address) {
  const auto after = std::upper_bound(mappings.begin(), mappings.end(), address,
                                      [](uint64_t a, const Mapping& mapping) { return a < mapping.vma.start; });
  if (after == mappings.begin()) return nullptr;
  const Mapping& mapping = *std::prev(after);
  return address < mapping.vma.end ? &mapping : nullptr;
}

}  // namespace cow::memory
