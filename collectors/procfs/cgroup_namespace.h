// Translates cgroup paths of version 2 into the host's, for a reader in its own cgroup namespace.
//
// Every unprivileged container has its own cgroup namespace. /proc/PID/cgroup then shows paths relative to the reader's
// cgroup: "/../../system.slice/x.service", or "/../pod…/ID" for a neighbour. The part that both paths share is hidden.
// SYSFS/fs/cgroup reveals it if SYSFS is the host's /sys, so that the host's hierarchy is mounted there.
#pragma once

#include <optional>
#include <string>

#include "collectors/procfs/cgroup.h"
#include "collectors/procfs/root.h"

namespace cow::procfs {

// Not thread-safe.
class CgroupNamespace {
 public:
  explicit CgroupNamespace(Root root);

  // Replaces the path of version 2 by the host's. Changes nothing until a path leads out of this namespace, and nothing
  // if SYSFS does not show the host's hierarchy.
  void Resolve(Cgroups& cgroups);

 private:
  Root root_;
  bool searched_ = false;  // the first path that leads out starts the search: some milliseconds for hundreds of cgroups
  std::optional<std::string> own_;  // root of this namespace on the host, such as "/a/b"
};

}  // namespace cow::procfs
