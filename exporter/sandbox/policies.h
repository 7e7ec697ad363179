// The seccomp filters of the three processes. sandbox.h says what each process may do.
#pragma once

#include "exporter/sandbox/filter.h"

namespace cow::exporter {

Filter ReaderFilter();
// Also allows perf events.
Filter RecordingReaderFilter();

// `removes_sockets`: the launcher may remove files. Landlock restricts where.
Filter LauncherFilter(int program, bool removes_sockets);

Filter FrontFilter();

}  // namespace cow::exporter
