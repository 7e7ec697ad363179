#include "collectors/procfs/cgroup_namespace.h"

#include <sys/types.h>

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <functional>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "collectors/base/text.h"

namespace cow::procfs {
namespace {

constexpr std::string_view kUp = "/..";
constexpr size_t kMaxCgroups = 65536;

bool LeadsOut(std::string_view path) { return path == kUp || path.starts_with("/../"); }

std::string* Version2Path(Cgroups& cgroups) {
  const auto begin = cgroups.entries.begin();
  const auto entry = std::find_if(begin, cgroups.entries.end(), std::mem_fn(&CgroupEntry::IsVersion2));
  return entry == cgroups.entries.end() ? nullptr : &entry->path;
}

bool HoldsProcess(const Root& root, const std::string& directory, pid_t pid) {
  const auto pids = ReadTextFile(root, directory + "/cgroup.procs");
  if (!pids) return false;
  std::string_view rest = *pids;
  std::string_view line;
  while (text::NextLine(rest, line)) {
    if (text::ParseNumber<pid_t>(line) == pid) return true;
  }
  return false;
}

// Returns the top directory of version 2's hierarchy, which is mounted alone or beside version 1.
std::optional<std::string> FindTop(const Root& root) {
  for (const char* directory : {"fs/cgroup", "fs/cgroup/unified"}) {
    std::string top = root.SysPath(directory);
    if (ReadTextFile(root, top + "/cgroup.controllers")) return top;
  }
  return std::nullopt;
}

// Returns the cgroup of `pid`: "" for the top, "/a/b" below it. Empty if no directory of the hierarchy lists the pid.
std::optional<std::string> FindCgroupOf(const Root& root, const std::string& top, pid_t pid) {
  std::vector<std::string> to_do{""};
  for (size_t looked_at = 0; !to_do.empty() && looked_at < kMaxCgroups; ++looked_at) {
    const std::string cgroup = std::move(to_do.back());
    to_do.pop_back();
    const std::string directory = top + cgroup;
    if (HoldsProcess(root, directory, pid)) return cgroup;
    if (Intercept(root.interposer(), Access::kOpen, directory)) continue;
    std::error_code gone;
    for (std::filesystem::directory_iterator entry(directory, gone), end; !gone && entry != end;
         entry.increment(gone)) {
      std::error_code unknown;
      if (entry->is_directory(unknown)) to_do.push_back(cgroup + "/" + entry->path().filename().string());
    }
  }
  return std::nullopt;
}

// Returns the root of the reader's namespace: the reader's cgroup on the host minus its path within the namespace.
std::optional<std::string> FindOwn(const Root& root) {
  const auto self = ReadLink(root, root.ProcPath("self"));
  if (!self) return std::nullopt;
  const auto pid = text::ParseNumber<pid_t>(*self);
  if (!pid) return std::nullopt;
  auto cgroups = ReadCgroups(root, *pid);
  if (!cgroups) return std::nullopt;
  const std::string* within = Version2Path(*cgroups);
  if (within == nullptr || LeadsOut(*within)) return std::nullopt;
  const auto top = FindTop(root);
  if (!top) return std::nullopt;
  auto own = FindCgroupOf(root, *top, *pid);
  if (!own || *within == "/") return own;
  if (!own->ends_with(*within)) return std::nullopt;
  own->resize(own->size() - within->size());
  return own;
}

}  // namespace

CgroupNamespace::CgroupNamespace(Root root) : root_(std::move(root)) {}

void CgroupNamespace::Resolve(Cgroups& cgroups) {
  std::string* path = Version2Path(cgroups);
  if (path == nullptr) return;
  if (!searched_ && LeadsOut(*path)) {
    searched_ = true;
    own_ = FindOwn(root_);
  }
  if (!own_ || own_->empty()) return;
  std::string_view rest = *path;
  std::string_view above = *own_;
  while (LeadsOut(rest)) {
    if (above.empty()) return;
    above = above.substr(0, above.rfind('/'));
    rest.remove_prefix(kUp.size());
  }
  if (rest == "/" && !above.empty()) rest = {};
  std::string resolved = std::string(above) + std::string(rest);
  *path = resolved.empty() ? "/" : std::move(resolved);
}

}  // namespace cow::procfs
