// Puts this process into a Landlock domain, through the system calls, because Landlock has no library. The kernel's
// Documentation/userspace-api/landlock.rst defines them.
//
// A domain restricts what this version of the program knows and the kernel supports: files since ABI 1 (Linux 5.13),
// TCP since ABI 4, devices since 5, signals and abstract unix sockets since 6.
#pragma once

#include <span>
#include <string>

namespace cow::exporter {

// The version of the kernel's Landlock; 0 if it has none or it is switched off.
int LandlockVersion();

// What may be done in spite of the domain. Open descriptors stay usable.
struct LandlockRules {
  std::span<const std::string> readable;   // files or directories: read and execute what they hold
  std::span<const std::string> removable;  // directories: remove files there
  int program = -1;                        // the descriptor of a program: read and execute it
};

// Forbids everything else: to open files, to change directories, to bind and to connect TCP sockets, to signal
// processes outside, and to connect to abstract unix sockets outside. Ignores paths that do not exist. Throws
// std::system_error, and std::logic_error if the process has other threads. no_new_privs must be set.
void EnterLandlockDomain(const LandlockRules& rules);

}  // namespace cow::exporter
