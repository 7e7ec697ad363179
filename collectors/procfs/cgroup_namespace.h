// The names that cgroups have on the host, for a reader in a cgroup namespace of its own, as each container has that is
// not privileged. There /proc/PID/cgroup gives version 2's paths from the reader's own cgroup on:
// "/../../system.slice/x.service",
// "/../pod…/ID" for a neighbour, where what both have in common is not to be seen. SYSFS/fs/cgroup tells it if the
// host's hierarchy is mounted there (of the host's /sys, not of the container's own).
#pragma once

#include <optional>
#include <string>

#include "collectors/procfs/cgroup.h"
#include "collectors/procfs/root.h"

namespace cow::procfs {

// Not for several threads at a time.
class CgroupNamespace {
 public:
  explicit CgroupNamespace(Root root);

  // Makes version 2's path the host's. Left as it is where nothing leads out of this namespace, and where the hierarchy
  // does not show what is outside.
  void Resolve(Cgroups& cgroups);

 private:
  Root root_;
  bool searched_ = false;           // at the first path that leads out: some milliseconds with hundreds of cgroups
  std::optional<std::string> own_;  // where this namespace begins on the host, "/a/b"
};

}  // namespace cow::procfs
