#include "collectors/procfs/same_memory.h"

#include <linux/kcmp.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <string>

namespace cow::procfs {

std::optional<bool> SameMemory(const Root& root, TaskId a, TaskId b) {
  const auto self = ReadLink(root.ProcPath("self"));
  if (!self || *self != std::to_string(getpid())) return std::nullopt;
  const auto order = syscall(SYS_kcmp, a.KernelId(), b.KernelId(), KCMP_VM, 0, 0);
  if (order < 0) return std::nullopt;
  return order == 0;
}

}  // namespace cow::procfs
