// Makes the permitted capabilities of this process effective. In a container of a user other than root they may come
// from the program's file, which permits them only: a file that also made them effective could not be executed at all
// where the container lacks one of them. Call it while there is one thread: capabilities belong to a thread.
#pragma once

namespace cow::exporter {

// Changes nothing where all are effective already. Ignores errors: the exporter reports what it can't read.
void UsePermittedCapabilities();

}  // namespace cow::exporter
