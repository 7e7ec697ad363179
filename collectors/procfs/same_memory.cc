#include "collectors/procfs/same_memory.h"

#include <linux/kcmp.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace cow::procfs {

std::optional<std::strong_ordering> CompareMemory(const Root& root, TaskId a, TaskId b) {
  if (!RequireOwnPids(root) || Intercept(root.interposer(), Access::kCompare, root.ProcPath(a, "")))
    return std::nullopt;
  const auto order = syscall(SYS_kcmp, a.KernelId(), b.KernelId(), KCMP_VM, 0, 0);
  switch (order) {
    case 0:
      return std::strong_ordering::equal;
    case 1:
      return std::strong_ordering::less;
    case 2:
      return std::strong_ordering::greater;
    default:  // an error, or unordered
      return std::nullopt;
  }
}

}  // namespace cow::procfs
