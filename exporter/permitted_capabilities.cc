#include "exporter/permitted_capabilities.h"

#include <linux/capability.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>

namespace cow::exporter {

void UsePermittedCapabilities() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> sets{};
  if (syscall(SYS_capget, &header, sets.data()) != 0) return;
  bool is_all = true;
  for (__user_cap_data_struct& words : sets) {
    is_all = is_all && words.effective == words.permitted;
    words.effective = words.permitted;
  }
  if (!is_all) syscall(SYS_capset, &header, sets.data());
}

}  // namespace cow::exporter
