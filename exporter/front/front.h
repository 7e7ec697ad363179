// The front: the process that accepts connections and speaks HTTP and TLS. It holds no capability, opens no file and
// serves what the reader sends it (channel/messages.h). It ends when the reader closes the channel.
#pragma once

namespace cow::exporter {

// Runs the front's process, which Launcher starts. Returns the exit code.
int RunFront();

}  // namespace cow::exporter
