// What a front needs to know at its start, as a sealed file of JSON. Plain values; any thread.
#pragma once

#include <string>
#include <vector>

#include "collectors/procfs/file_descriptor.h"
#include "exporter/http/server.h"
#include "exporter/log/log.h"
#include "exporter/sandbox/sandbox.h"

namespace cow::exporter {

struct FrontOptions {
  ServerOptions server;
  bool lifecycle = false;  // allow /-/reload
  bool has_web = false;    // a web configuration follows
  size_t sockets = 0;      // number of listening sockets
  SandboxMode sandbox = SandboxMode::kAuto;
  LogLevel log_level = LogLevel::kInfo;
  LogFormat log_format = LogFormat::kLogfmt;
};

// Throws std::system_error.
procfs::FileDescriptor SealFrontOptions(const FrontOptions& options);
// Throws std::exception if the file is none of SealFrontOptions.
FrontOptions UnsealFrontOptions(int descriptor);

}  // namespace cow::exporter
