// /proc/PID/cgroup and the memory limits below /sys/fs/cgroup. World-readable. Both hierarchies: version 2 ("0::/path")
// and version 1 ("N:memory:/path").
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "collectors/base/result.h"
#include "collectors/procfs/root.h"

namespace cow::procfs {

struct CgroupEntry {
  uint32_t hierarchy = 0;                // 0 is version 2
  std::vector<std::string> controllers;  // empty for version 2; "name=systemd" style names kept
  std::string path;

  bool IsVersion2() const { return hierarchy == 0 && controllers.empty(); }
};

struct Cgroups {
  std::vector<CgroupEntry> entries;

  // The path that charges memory: the v1 memory controller's where there is one, else version 2's; empty where neither.
  std::string MemoryPath() const;
  bool MemoryIsVersion1() const;
  // The path that names units and containers: the first that is not "/" of version 2's, name=systemd's and the memory
  // controller's; "/" where all are.
  std::string NamingPath() const;
};

Result<Cgroups> ReadCgroups(const Root& root, pid_t pid);
Result<Cgroups> ParseCgroups(std::string_view text, const std::string& path);

struct CgroupMemory {
  std::optional<uint64_t> limit_bytes;  // empty: no limit ("max", or version 1's huge default)
  uint64_t usage_bytes = 0;
};

// Version 2: SYSFS/fs/cgroup/PATH/memory.{max,current}; version 1:
// SYSFS/fs/cgroup/memory/PATH/memory.{limit,usage}_in_bytes.
Result<CgroupMemory> ReadCgroupMemory(const Root& root, const Cgroups& cgroups);

// Names that a cgroup path carries; each is empty where the path has none.
struct CgroupNames {
  std::string unit;  // systemd unit: the last path component ending in .service, .scope, .socket, .mount or .slice
                     // (a slice only where nothing better is there)
  std::string container_id;  // 64 hexadecimal digits, from docker, containerd, CRI-O or podman paths of both versions
  std::string pod_uid;       // Kubernetes pod UID with dashes, from kubepods paths of both cgroup drivers
};
CgroupNames ParseCgroupPath(std::string_view cgroup_path);

}  // namespace cow::procfs
