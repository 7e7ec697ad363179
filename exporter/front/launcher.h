// The launcher: a process without capabilities that starts fronts. The reader starts it before it confines itself,
// because a process inherits the seccomp filter of its parent: a front that the reader started could not accept
// connections. Thanks to the launcher, the reader needs neither the listening sockets nor the right to execute
// anything.
//
// Launcher is the reader's side. One thread at a time.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "exporter/channel/channel.h"
#include "exporter/http/listen_socket.h"
#include "exporter/sandbox/sandbox.h"

namespace cow::exporter {

// The first argument of the program in the other two processes.
inline constexpr const char* kLauncherCommand = "launcher";
inline constexpr const char* kFrontCommand = "front";

// Descriptors that a front starts with: its channel, then the listening sockets.
inline constexpr int kFrontChannel = 3;
inline constexpr int kFrontSockets = 4;

class Launcher {
 public:
  // Starts the process and hands the sockets over to it. Call it while this process has one thread. Throws
  // std::system_error.
  Launcher(std::vector<ListenSocket>& sockets, SandboxMode sandbox);
  ~Launcher() { End(); }
  Launcher(const Launcher&) = delete;
  Launcher& operator=(const Launcher&) = delete;

  // Starts a front with `channel` and the sockets, which accept connections again. Throws std::runtime_error if that
  // fails or if the launcher has ended.
  pid_t StartFront(const Channel& channel);

  // Ends the front, if one runs, and returns its wait status. With `refuse`, TCP connections are refused until the next
  // start; otherwise they wait. Throws std::runtime_error if the launcher has ended.
  int StopFront(bool refuse);

  // Ends the process and its front, and waits for it. It removes the files of the unix sockets.
  void End();

  // Becomes readable when the launcher has ended.
  [[nodiscard]] int Descriptor() const { return control_.Descriptor(); }

 private:
  Launcher(std::pair<Channel, Channel> ends, std::vector<ListenSocket>& sockets, SandboxMode sandbox);

  Channel control_;
  pid_t pid_ = -1;
};

// Runs the launcher's process: `arguments` are those that Launcher passes. Returns the exit code.
int RunLauncher(const std::vector<std::string>& arguments);

}  // namespace cow::exporter
