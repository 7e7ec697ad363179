// The process that starts, ends and replaces the process that parses files. It exists because the exporter confines
// itself and can start no process later, and because a process that hangs must be killed. It parses nothing itself and
// has no capability.
//
// It is a fork of the caller, so start it early: before anything secret is read, while the caller has one thread, and
// before the caller installs a seccomp filter. Both processes end when the caller ends or destroys the Keeper. They
// ignore the signals of a terminal and of a service manager.
#pragma once

#include <sys/types.h>

#include "collectors/procfs/file_descriptor.h"

namespace cow::symbols {

class Keeper {
 public:
  // Runs in each parsing process, with its end of the channel, and returns its exit code.
  using Work = int (*)(procfs::FileDescriptor channel);

  // Throws std::system_error.
  explicit Keeper(Work work);
  ~Keeper();
  Keeper(const Keeper&) = delete;
  Keeper& operator=(const Keeper&) = delete;

  // Kills the process that runs, if any, starts another one, and returns a channel to it. Not valid if the keeper has
  // ended.
  procfs::FileDescriptor Replace();

  pid_t pid() const { return pid_; }

 private:
  procfs::FileDescriptor control_;
  pid_t pid_ = -1;
};

}  // namespace cow::symbols
