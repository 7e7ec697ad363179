// Gives up capabilities for good. Sets no_new_privs too: else uid 0 would get the capabilities of its bounding set back
// when it executes a program.
//
// Capabilities belong to a thread, so these functions throw std::logic_error if the process has a second one. They
// throw std::system_error if the kernel refuses.
#pragma once

#include <linux/capability.h>

#include <array>
#include <span>

namespace cow::exporter {

// What the reader uses while it runs. deploy/INSTALL.md says what for.
inline constexpr std::array kReaderCapabilities{CAP_SYS_ADMIN, CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH, CAP_NET_ADMIN};

// Drops every capability that is not in `capabilities`. Those that are and that the process holds stay permitted and
// effective. The inheritable and the ambient set become empty. The bounding set shrinks to `capabilities` too if the
// process holds CAP_SETPCAP.
void KeepOnly(std::span<const int> capabilities);

void DropAllCapabilities();

}  // namespace cow::exporter
