// Confines the three processes of a running exporter: sets no_new_privs, makes the process not dumpable, forbids core
// files, and installs a seccomp filter and a Landlock domain.
//
// A filter lists what its process needs. Every other system call fails with EPERM; clone3 fails with ENOSYS, so that
// glibc falls back to clone, whose flags a filter can see. No filter kills. Filters and domains are inherited and can't
// be removed.
//
// - The reader reads files and talks to netlink and unix sockets that it opened before. It opens nothing for writing,
//   starts no program and no process, accepts no connection, signals only itself, and creates no sockets other than
//   unix ones, which name services and sd_notify need. It uses no Landlock: inside of a domain the kernel refuses the
//   page tables of processes outside.
// - The launcher starts `program`, signals (SIGTERM and SIGKILL) and reaps, and closes its listening sockets. It reads
//   and executes what lies in the directories of its own shared libraries, and writes to no file.
// - The front accepts connections on the sockets that it inherited. It opens no file, creates no socket, connects to
//   nothing, maps no executable memory, and signals only itself.
//
// Call one of these functions once in each process, after it has dropped its capabilities. The launcher and the front
// must have one thread; the reader's filter covers the threads that it has.
//
// A process that is not dumpable and lacks CAP_DAC_READ_SEARCH can't open its own /proc/self/pagemap, and other
// processes of its user can't read its memory.
#pragma once

#include <span>
#include <string>
#include <vector>

namespace cow::exporter {

enum class SandboxMode {
  kAuto,     // use what the kernel has
  kOff,      // change nothing, for debugging
  kRequire,  // throw std::runtime_error if a part is missing
};

struct SandboxState {
  bool seccomp = false;
  bool landlock = false;             // always false for the reader
  std::vector<std::string> missing;  // one phrase for each part that should be in force and is not
};

SandboxState ConfineReader(SandboxMode mode);
// A reader that may also open perf events, for the collector `writers`.
SandboxState ConfineRecordingReader(SandboxMode mode);

// `program`: the descriptor of the program that the launcher may execute, with execveat and AT_EMPTY_PATH.
// `socket_directories`: where the launcher may remove files. It removes none if this is empty.
SandboxState ConfineLauncher(SandboxMode mode, int program, std::span<const std::string> socket_directories = {});

SandboxState ConfineFront(SandboxMode mode);

// True if every part that a running exporter uses can be in force on this kernel and with this mode: seccomp filters
// and Landlock. Asks the kernel and confines nothing. Call it before the process confines itself.
bool SandboxIsComplete(SandboxMode mode);

// For a log line: what is in force, for example "seccomp and Landlock" or "nothing".
std::string InForce(const SandboxState& state);

}  // namespace cow::exporter
