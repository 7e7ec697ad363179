// The reasons why a process can't be shown, in sentences for a person. Reads /proc/PID/stat and status. Any thread.
#pragma once

#include <sys/types.h>

#include <string>
#include <tl/expected.hpp>

#include "collectors/base/result.h"
#include "collectors/procfs/root.h"

namespace cow::explain {

struct Failure {
  enum class Kind { kNoProcess, kNoMemory, kThread, kDenied, kEnded, kNoMapping, kStopped, kOther };
  Kind kind = Kind::kOther;
  std::string message;  // for a person: a sentence without a full stop
};

tl::unexpected<Failure> Fail(Failure::Kind kind, std::string message);

// Describes the error of a file of /proc/PID, with the reason if it was denied.
std::string WhyUnread(const procfs::Root& root, pid_t pid, const Error& error);

// Says why the memory of `pid` can't be read.
tl::unexpected<Failure> FailToRead(const procfs::Root& root, pid_t pid, const Error& error);

// Fails if `pid` is no process with memory of its own: a thread, a kernel thread, a zombie, or nothing at all.
tl::expected<void, Failure> CheckProcess(const procfs::Root& root, pid_t pid);

}  // namespace cow::explain
