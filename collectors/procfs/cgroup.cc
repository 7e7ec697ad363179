#include "collectors/procfs/cgroup.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <functional>
#include <utility>

#include "collectors/base/text.h"

namespace cow::procfs {
namespace {

constexpr std::string_view kDeleted = " (deleted)";  // the kernel marks a removed cgroup
constexpr size_t kContainerIdDigits = 64;
constexpr uint64_t kVersion1Unlimited = uint64_t{1} << 62;  // the kernel's default is above this value

const CgroupEntry* FindController(const std::vector<CgroupEntry>& entries, std::string_view controller) {
  for (const CgroupEntry& entry : entries) {
    if (std::find(entry.controllers.begin(), entry.controllers.end(), controller) != entry.controllers.end()) {
      return &entry;
    }
  }
  return nullptr;
}

const CgroupEntry* FindVersion2(const std::vector<CgroupEntry>& entries) {
  const auto entry = std::find_if(entries.begin(), entries.end(), std::mem_fn(&CgroupEntry::IsVersion2));
  return entry == entries.end() ? nullptr : &*entry;
}

Result<uint64_t> ReadNumberFile(const Root& root, const std::string& path, std::string_view field,
                                std::string_view unlimited_word) {
  const auto text = ReadTextFile(root, path);
  if (!text) return tl::unexpected(text.error());
  const std::string_view line = text::FirstLine(*text);
  if (!unlimited_word.empty() && line == unlimited_word) return kVersion1Unlimited;
  return text::NumberField<uint64_t>(path, field, line);
}

bool HasParentComponent(std::string_view path) {
  while (!path.empty()) {
    if (text::CutAt(path, '/') == "..") return true;
  }
  return false;
}

bool IsHexadecimal(std::string_view value) {
  return std::all_of(value.begin(), value.end(),
                     [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

// Removes `suffix` unless it is the whole value.
bool CutSuffix(std::string_view& value, std::string_view suffix) {
  if (value.size() <= suffix.size() || !value.ends_with(suffix)) return false;
  value.remove_suffix(suffix.size());
  return true;
}

bool CutPrefix(std::string_view& value, std::string_view prefix) {
  if (!value.starts_with(prefix)) return false;
  value.remove_prefix(prefix.size());
  return true;
}

// Accepts docker-ID.scope, cri-containerd-ID.scope, crio-ID.scope, libpod-ID.scope, the same names without .scope, and
// a bare ID (docker, containerd). Ignores the monitors crio-conmon-ID and libpod-conmon-ID, which run outside of their
// container.
std::string_view ContainerIdOf(std::string_view component) {
  constexpr std::array<std::string_view, 6> kPrefixes{"docker-",         "cri-containerd-", "crio-",
                                                      "libpod-payload-", "libpod-",         "nerdctl-"};
  CutSuffix(component, ".scope");
  for (const std::string_view prefix : kPrefixes) {
    if (CutPrefix(component, prefix)) break;
  }
  const bool is_id = component.size() == kContainerIdDigits && IsHexadecimal(component);
  return is_id ? component : std::string_view();
}

// Accepts 8-4-4-4-12 hexadecimal digits, or the 32 digits of a static pod's hash.
bool IsPodUid(std::string_view uid) {
  constexpr size_t kUidLength = 36;
  constexpr size_t kHashLength = 32;
  if (uid.size() == kHashLength) return IsHexadecimal(uid);
  if (uid.size() != kUidLength) return false;
  for (const size_t dash : {8U, 13U, 18U, 23U}) {
    if (uid[dash] != '-') return false;
  }
  for (const size_t length : {8U, 4U, 4U, 4U, 12U}) {
    if (!IsHexadecimal(uid.substr(0, length))) return false;
    uid.remove_prefix(std::min<size_t>(length + 1, uid.size()));
  }
  return true;
}

// Accepts podUID of the cgroupfs driver and kubepods[-burstable|-besteffort]-podU_I_D.slice of the systemd driver. The
// latter may have any prefix: kind uses kubelet-kubepods.
std::string PodUidOf(std::string_view component) {
  constexpr std::string_view kPod = "-pod";
  if (CutSuffix(component, ".slice")) {
    const size_t pod = component.rfind(kPod);
    if (pod == std::string_view::npos || component.find("kubepods") >= pod) return {};
    component.remove_prefix(pod + kPod.size());
  } else if (!CutPrefix(component, kPod.substr(1))) {
    return {};
  }
  std::string uid(component);
  std::replace(uid.begin(), uid.end(), '_', '-');
  return IsPodUid(uid) ? uid : std::string();
}

bool IsSlice(std::string_view component) { return CutSuffix(component, ".slice"); }

bool IsUnit(std::string_view component) {
  constexpr std::array<std::string_view, 4> kSuffixes{".service", ".scope", ".socket", ".mount"};
  return std::any_of(kSuffixes.begin(), kSuffixes.end(),
                     [component](std::string_view suffix) mutable { return CutSuffix(component, suffix); });
}

}  // namespace

std::string Cgroups::MemoryPath() const {
  const CgroupEntry* entry = FindController(entries, "memory");
  if (entry == nullptr) entry = FindVersion2(entries);
  return entry == nullptr ? std::string() : entry->path;
}

bool Cgroups::MemoryIsVersion1() const { return FindController(entries, "memory") != nullptr; }

std::string Cgroups::NamingPath() const {
  for (const CgroupEntry* entry :
       {FindVersion2(entries), FindController(entries, "name=systemd"), FindController(entries, "memory")}) {
    if (entry != nullptr && entry->path != "/") return entry->path;
  }
  return "/";
}

Result<Cgroups> ReadCgroups(const Root& root, pid_t pid) {
  const std::string path = root.ProcPath(pid, "cgroup");
  return ReadTextFile(root, path).and_then([&](const std::string& text) { return ParseCgroups(text, path); });
}

// The text is empty on a host without a mounted hierarchy.
Result<Cgroups> ParseCgroups(std::string_view text, const std::string& path) {
  Cgroups cgroups;
  std::string_view line;
  while (text::NextLine(text, line)) {
    std::string_view cgroup_path = line;  // may contain colons
    const auto hierarchy = text::NumberField<uint32_t>(path, "hierarchy", text::CutAt(cgroup_path, ':'));
    if (!hierarchy) return tl::unexpected(hierarchy.error());
    std::string_view controllers = text::CutAt(cgroup_path, ':');
    if (!cgroup_path.starts_with('/')) return tl::unexpected(text::BadField(path, "cgroup path", line));
    CgroupEntry entry;
    entry.hierarchy = *hierarchy;
    while (!controllers.empty()) entry.controllers.emplace_back(text::CutAt(controllers, ','));
    entry.path = cgroup_path;
    cgroups.entries.push_back(std::move(entry));
  }
  return cgroups;
}

Result<CgroupMemory> ReadCgroupMemory(const Root& root, const Cgroups& cgroups) {
  const std::string path = cgroups.MemoryPath();
  const bool version1 = cgroups.MemoryIsVersion1();
  std::string directory = root.SysPath(version1 ? "fs/cgroup/memory" : "fs/cgroup");
  if (path.empty()) return tl::unexpected(Error{ErrorKind::kIo, directory, 0, "no cgroup charges memory"});
  if (HasParentComponent(path)) {
    return tl::unexpected(Error{ErrorKind::kIo, directory, 0, "outside of this cgroup namespace: " + path});
  }
  if (path != "/") directory += path;
  const auto usage =
      ReadNumberFile(root, directory + (version1 ? "/memory.usage_in_bytes" : "/memory.current"), "memory usage", "");
  if (!usage) return tl::unexpected(usage.error());
  const auto limit =
      ReadNumberFile(root, directory + (version1 ? "/memory.limit_in_bytes" : "/memory.max"), "memory limit", "max");
  if (!limit) return tl::unexpected(limit.error());
  CgroupMemory memory;
  memory.usage_bytes = *usage;
  if (*limit < kVersion1Unlimited) memory.limit_bytes = *limit;
  return memory;
}

CgroupNames ParseCgroupPath(std::string_view cgroup_path) {
  CgroupNames names;
  CutSuffix(cgroup_path, kDeleted);
  std::string_view slice;
  // In a cgroup namespace below kubepods, the name kubepods itself is hidden.
  bool in_kubepods = cgroup_path.starts_with("/../");
  std::string_view parent;
  while (!cgroup_path.empty()) {
    const std::string_view component = text::CutAt(cgroup_path, '/');
    // Below libpod_parent, podman's cgroupfs driver names pods by their bare id.
    const bool is_pod = std::exchange(parent, component) == "libpod_parent" && ContainerIdOf(component) == component;
    if (IsUnit(component)) names.unit = component;
    if (IsSlice(component)) slice = component;
    // containerd writes SLICE:cri-containerd:ID as one component if it gets systemd's names without systemd's driver.
    for (std::string_view parts = component; !parts.empty();) {
      const std::string_view part = text::CutAt(parts, ':');
      in_kubepods = in_kubepods || part.find("kubepods") != std::string_view::npos;
      if (const std::string_view id = ContainerIdOf(part); !id.empty() && !is_pod) names.container_id = id;
      if (std::string uid = PodUidOf(part); in_kubepods && !uid.empty()) names.pod_uid = std::move(uid);
    }
  }
  if (names.unit.empty()) names.unit = slice;
  return names;
}

}  // namespace cow::procfs
