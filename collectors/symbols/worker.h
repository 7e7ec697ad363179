// The process that parses files of other users. Runs in the Keeper's fork: confines itself, then answers requests until
// its channel closes.
#pragma once

#include "collectors/procfs/file_descriptor.h"

namespace cow::symbols {

// Returns the exit code. Has one thread.
int RunWorker(procfs::FileDescriptor channel);

}  // namespace cow::symbols
