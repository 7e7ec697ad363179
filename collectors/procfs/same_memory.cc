#include "collectors/procfs/same_memory.h"

#include <linux/kcmp.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <iterator>

namespace cow::procfs {

std::optional<std::strong_ordering> CompareMemory(const Root& root, TaskId a, TaskId b) {
  if (!RequireOwnPids(root) || Intercept(root.interposer(), Access::kCompare, root.ProcPath(a, "")))
    return std::nullopt;
  const auto order = syscall(SYS_kcmp, a.KernelId(), b.KernelId(), KCMP_VM, 0, 0);
  constexpr std::array kOrders{std::strong_ordering::equal, std::strong_ordering::less, std::strong_ordering::greater};
  if (order < 0 || order >= std::ssize(kOrders)) return std::nullopt;  // an error, or unordered
  return kOrders.at(static_cast<size_t>(order));
}

}  // namespace cow::procfs
