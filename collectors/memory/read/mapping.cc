#include "collectors/memory/read/mapping.h"

#include <string_view>

namespace cow::memory {
namespace {

using Device = DeviceTypes::Device;
using Type = DeviceTypes::Type;

// The largest number of processes per pass whose mountinfo is searched for one device.
constexpr uint32_t kMaxAsked = 8;

MappingKind KindOf(const procfs::Vma& vma, Type type) {
  const std::string_view path = vma.path;
  if (path == "[heap]") return MappingKind::kHeap;
  if (path == "[stack]" || path.starts_with("[stack:")) return MappingKind::kStack;
  if (path.empty() || path.starts_with("[anon:")) return vma.shared ? MappingKind::kShmem : MappingKind::kAnon;
  if (path.starts_with("[anon_shmem:") || path.starts_with("/memfd:") || path.starts_with("/SYSV") ||
      path.starts_with("/dev/zero")) {
    return MappingKind::kShmem;
  }
  if (path.front() == '/' && type == Type::kTmpfs) return MappingKind::kShmem;
  return MappingKind::kFile;
}

Type TypeOf(const procfs::Mount& mount) {
  if (mount.filesystem_type == "tmpfs" || mount.filesystem_type == "devtmpfs") return Type::kTmpfs;
  return mount.filesystem_type == "hugetlbfs" ? Type::kHugetlbfs : Type::kOther;
}

// A VMA without a file has device 0:0. The inode does not help: System V's first segment has number 0.
bool IsUnnamedDevice(const procfs::Vma& vma) { return vma.device_major == 0 && vma.device_minor != 0; }

}  // namespace

DeviceTypes::DeviceTypes(const procfs::Root& root) : root_(root), kernel_hugetlb_(procfs::FindKernelHugetlb(root)) {
  BeginPass();
}

void DeviceTypes::BeginPass() {
  const std::lock_guard lock(mutex_);
  known_.clear();
  if (!kernel_hugetlb_) return;
  for (const Device& device : *kernel_hugetlb_) known_[device] = {Type::kHugetlbfs, true, 0};
}

void DeviceTypes::Learn(Result<procfs::MountinfoReader> mounts, std::set<Device>& wanted) {
  while (mounts && !wanted.empty()) {
    const auto mount = mounts->Next();
    if (!mount || *mount == nullptr) return;
    const Device device((*mount)->device_major, (*mount)->device_minor);
    if (wanted.erase(device) != 0) known_[device] = {TypeOf(**mount), true, 0};
  }
}

std::map<Device, Type> DeviceTypes::Find(std::span<const procfs::Vma> vmas, procfs::TaskId task) {
  std::map<Device, Type> types;
  for (const procfs::Vma& vma : vmas) {
    if (IsUnnamedDevice(vma)) types.emplace(Device(vma.device_major, vma.device_minor), Type::kOther);
  }
  const std::lock_guard lock(mutex_);
  std::set<Device> wanted;
  for (const auto& [device, type] : types) {
    const Known& known = known_[device];
    if (!known.in_mountinfo && known.asked < kMaxAsked) wanted.insert(device);
  }
  if (!wanted.empty()) {
    Learn(procfs::MountinfoReader::Open(root_, task), wanted);
    // The file may be from outside the task's mount namespace.
    if (!wanted.empty()) Learn(procfs::MountinfoReader::OpenSelf(root_), wanted);
    for (const Device& device : wanted) ++known_[device].asked;
  }
  for (auto& [device, type] : types) type = known_[device].type;
  return types;
}

std::vector<Mapping> ClassifyMappings(std::vector<procfs::Vma> vmas, procfs::TaskId task, DeviceTypes& devices) {
  const std::map<Device, Type> types = devices.Find(vmas, task);
  std::vector<Mapping> mappings;
  mappings.reserve(vmas.size());
  for (procfs::Vma& vma : vmas) {
    if (vma.path == "[vsyscall]") continue;
    const Type type = IsUnnamedDevice(vma) ? types.at({vma.device_major, vma.device_minor}) : Type::kOther;
    // A file of any filesystem may have this name.
    const bool anonymous_huge =
        vma.path.starts_with("/anon_hugepage") && (type == Type::kHugetlbfs || !devices.knows_kernel_hugetlb());
    Mapping mapping;
    mapping.kind = KindOf(vma, type);
    mapping.hugetlb = anonymous_huge || type == Type::kHugetlbfs;
    if (anonymous_huge) mapping.kind = vma.shared ? MappingKind::kShmem : MappingKind::kAnon;
    mapping.vma = std::move(vma);
    mappings.push_back(std::move(mapping));
  }
  return mappings;
}

bool AreAlike(std::span<const Mapping> a, std::span<const Mapping> b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const Mapping& left, const Mapping& right) {
    return left.vma.start == right.vma.start && left.vma.end == right.vma.end && left.kind == right.kind &&
           left.vma.readable == right.vma.readable && left.vma.writable == right.vma.writable &&
           left.vma.shared == right.vma.shared;
  });
}

uint64_t BytesOf(const std::vector<Mapping>& mappings) {
  constexpr size_t kInPlace = 15;  // a longer string has heap memory
  uint64_t bytes = mappings.capacity() * sizeof(Mapping);
  for (const Mapping& mapping : mappings) {
    bytes += mapping.vma.path.capacity() > kInPlace ? mapping.vma.path.capacity() + 1 : 0;
  }
  return bytes;
}

size_t FirstMapping(std::span<const Mapping> mappings, uint64_t address) {
  const auto found = std::partition_point(mappings.begin(), mappings.end(),
                                          [address](const Mapping& mapping) { return mapping.vma.end <= address; });
  return static_cast<size_t>(found - mappings.begin());
}

const Mapping* FindMapping(std::span<const Mapping> mappings, uint64_t address) {
  const size_t index = FirstMapping(mappings, address);
  return index < mappings.size() && mappings[index].vma.start <= address ? &mappings[index] : nullptr;
}

}  // namespace cow::memory
