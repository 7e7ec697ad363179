// Takes every right from the process that parses ELF files of other users. Inherited by no one: it can start nothing.
#pragma once

namespace cow::symbols {

// Drops all capabilities, sets no_new_privs, makes the process not dumpable, and forbids core files. Throws
// std::system_error. The process must have one thread.
void DropRights();

// Bounds memory and CPU time, and installs a seccomp filter that allows to use and close descriptors that are already
// there, to receive more, to allocate memory that is not executable, and to end. Every other system call fails with
// EPERM: opening, executing, sockets, signals to others, new processes and threads. Throws std::system_error or
// std::runtime_error. Builds with a sanitizer, which needs more, have no filter and no bounds.
void Confine();

}  // namespace cow::symbols
