// Finds out why the kernel denied this process a file of another process. Every reason is a fact that was read, in the
// order of the kernel's own checks: hidepid, the file's owner, and those of ptrace's right to read (users and groups,
// dumpable, capabilities, user namespace, security modules; kernel/ptrace.c and security/commoncap.c). Yama is not
// among them: it restricts attaching, not reading.
//
// Reads status, uid_map and ns/user of both processes, mountinfo, and the list of security modules. All but ns/user are
// world-readable; what can't be read is no reason. Any thread.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "collectors/base/result.h"
#include "collectors/procfs/root.h"

namespace cow::explain {

// From /proc/PID/status.
struct Credentials {
  std::array<uint32_t, 4> users{};   // real, effective, saved, of the filesystem
  std::array<uint32_t, 4> groups{};  // likewise
  uint64_t permitted = 0;            // capabilities: bit masks
  uint64_t effective = 0;
};

struct DenialFacts {
  std::string file;  // the name of the denied file: "maps", "pagemap"…
  std::optional<Credentials> own;
  std::optional<Credentials> target;
  std::optional<uint32_t> owner;        // user who owns the file
  std::string hidepid;                  // the value of that option of the procfs mount; empty: none
  bool outside_user_namespace = false;  // the target is in another user namespace, and this process' is not the initial
  std::string modules;                  // the active security modules; empty if unknown
};

// Returns the value of the option hidepid of the mount of procfs; empty if it hides nothing.
std::string ReadHidepid(const procfs::Root& root);

DenialFacts ReadDenialFacts(const procfs::Root& root, pid_t pid, const Error& error);

// Returns the reason: a phrase without a full stop. Pure.
std::string DescribeDenial(const DenialFacts& facts);

}  // namespace cow::explain
