// Reads /proc/PID/cgroup and the memory limits below /sys/fs/cgroup, for version 2 ("0::/path") and version 1
// ("N:memory:/path"). World-readable. Limits are in bytes. Any thread.
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

  // The path of the cgroup that charges memory: the version 1 memory controller's, else version 2's, else empty.
  std::string MemoryPath() const;
  bool MemoryIsVersion1() const;
  // The path that names units and containers: the first one other than "/" among version 2, name=systemd and the
  // version 1 memory controller. "/" if there is none.
  std::string NamingPath() const;
};

Result<Cgroups> ReadCgroups(const Root& root, pid_t pid);
Result<Cgroups> ParseCgroups(std::string_view text, const std::string& path);

struct CgroupMemory {
  std::optional<uint64_t> limit_bytes;  // empty: no limit ("max", or version 1's huge default)
  uint64_t usage_bytes = 0;
};

// Reads SYSFS/fs/cgroup/PATH/memory.{max,current} for version 2 and
// SYSFS/fs/cgroup/memory/PATH/memory.{limit,usage}_in_bytes for version 1. kIo: no cgroup charges the process' memory,
// or its cgroup lies outside of the reader's cgroup namespace.
Result<CgroupMemory> ReadCgroupMemory(const Root& root, const Cgroups& cgroups);

// Names found in a cgroup path. A name is empty if the path does not contain it.
struct CgroupNames {
  std::string unit;  // systemd unit: the last path component that ends in .service, .scope, .socket or .mount, else
                     // the last .slice
  std::string container_id;  // 64 hexadecimal digits, from docker, containerd, CRI-O or podman paths of both versions
  std::string pod_uid;       // Kubernetes pod UID with dashes, from kubepods paths of both cgroup drivers
};
CgroupNames ParseCgroupPath(std::string_view cgroup_path);

}  // namespace cow::procfs
