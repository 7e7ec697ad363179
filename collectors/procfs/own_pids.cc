#include "collectors/procfs/own_pids.h"

#include <unistd.h>

#include <string>

namespace cow::procfs {

Result<void> RequireOwnPids(const Root& root) {
  const std::string path = root.ProcPath("self");
  const auto self = ReadLink(root, path);
  if (!self) return tl::unexpected(self.error());
  if (*self == std::to_string(getpid())) return {};
  return tl::unexpected(Error{ErrorKind::kIo, path, 0, "not this process: the pids are of another PID namespace"});
}

}  // namespace cow::procfs
