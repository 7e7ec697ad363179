// Takes every right from the process that parses ELF files of other users, and most from its keeper (keeper.h).
#pragma once

namespace cow::symbols {

// Drops all capabilities, sets no_new_privs, makes the process not dumpable, and forbids core files. Throws
// std::system_error. The process must have one thread.
void DropRights();

// Installs a seccomp filter that allows what ConfineWorker allows, and what the keeper needs: to fork, to kill, and to
// confine its children. Every other system call fails with EPERM: opening, executing, sockets, new namespaces.
void ConfineKeeper();

// Bounds memory and CPU time, and installs a seccomp filter that allows to use and close descriptors that are already
// there, to receive more, to allocate memory that is not executable, and to end. Every other system call fails with
// EPERM: also signals to others, new processes and threads.
void ConfineWorker();

// The last two throw std::system_error or std::runtime_error. In builds with a sanitizer, which needs more, they do
// nothing but raise the limit of descriptors.

}  // namespace cow::symbols
