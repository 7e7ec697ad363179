// /proc/PID/cgroup, and the names of units, containers and pods in its paths.
#include <algorithm>
#include <string>

#include "collectors/procfs/cgroup.h"
#include "tests/fuzz/bytes.h"
#include "tests/fuzz/check.h"

using cow::fuzz::Check;
namespace procfs = cow::procfs;

namespace {

void CheckNames(std::string_view path) {
  const procfs::CgroupNames names = procfs::ParseCgroupPath(path);
  Check(path.find(names.unit) != std::string_view::npos, "the unit is part of the path");
  Check(path.find(names.container_id) != std::string_view::npos, "the container is part of the path");
  Check(names.container_id.empty() || names.container_id.size() == 64, "the container has 64 digits");
  Check(names.pod_uid.find('/') == std::string::npos, "the pod is one name");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text = cow::fuzz::Text(data, size);
  CheckNames(text);
  const auto cgroups = procfs::ParseCgroups(text, "cgroup");
  if (!cgroups) return 0;
  for (const procfs::CgroupEntry& entry : cgroups->entries) CheckNames(entry.path);
  Check(!cgroups->NamingPath().empty(), "there is a naming path");
  static_cast<void>(cgroups->MemoryPath());
  static_cast<void>(cgroups->MemoryIsVersion1());
  return 0;
}
