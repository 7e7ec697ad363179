// A snapshot as a sealed file: its index as CBOR, then its texts.
//
// Any thread.
#pragma once

#include <memory>

#include "collectors/procfs/file_descriptor.h"
#include "exporter/snapshot/snapshot.h"

namespace cow::exporter {

// Throws std::system_error.
procfs::FileDescriptor WriteSnapshot(const Snapshot& snapshot);

// Maps the texts, which stay shared with the writer. Throws std::exception if the file is no snapshot.
std::shared_ptr<const Snapshot> ReadSnapshot(int descriptor);

}  // namespace cow::exporter
