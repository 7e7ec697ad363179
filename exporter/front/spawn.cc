#include "exporter/front/spawn.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <system_error>
#include <thread>

namespace cow::exporter {
namespace {

constexpr int kExitNotExecuted = 127;

// Runs in the child. Returns only if a step fails.
void Execute(int program, std::vector<char*>& arguments, std::vector<int>& descriptors) {
  // Moves all out of the way first, so that no target overwrites a source.
  const int above = kFirstDescriptor + static_cast<int>(descriptors.size());
  for (int& descriptor : descriptors) {
    descriptor = fcntl(descriptor, F_DUPFD_CLOEXEC, above);
    if (descriptor < 0) return;
  }
  for (size_t i = 0; i < descriptors.size(); ++i) {
    if (dup3(descriptors[i], kFirstDescriptor + static_cast<int>(i), 0) < 0) return;
  }
  // Descriptors that a parent left open. Before Linux 5.11 they stay open.
  syscall(SYS_close_range, static_cast<unsigned>(above), ~0U, CLOSE_RANGE_CLOEXEC);
  syscall(SYS_execveat, program, "", arguments.data(), environ, AT_EMPTY_PATH);
}

}  // namespace

pid_t Spawn(int program, const std::vector<std::string>& arguments, std::span<const int> descriptors) {
  std::vector<char*> pointers;
  pointers.reserve(arguments.size() + 1);
  for (const std::string& argument : arguments) {
    pointers.push_back(const_cast<char*>(argument.c_str()));  // NOLINT: execveat only reads it
  }
  pointers.push_back(nullptr);
  std::vector<int> list(descriptors.begin(), descriptors.end());
  const pid_t pid = fork();
  if (pid < 0) throw std::system_error(errno, std::generic_category(), "fork");
  if (pid == 0) {
    Execute(program, pointers, list);
    _exit(kExitNotExecuted);
  }
  return pid;
}

int WaitFor(pid_t pid) {
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return status;
}

int End(pid_t pid, std::chrono::milliseconds patience) {
  constexpr std::chrono::milliseconds kTurn{2};
  const auto end = std::chrono::steady_clock::now() + patience;
  int status = 0;
  while (std::chrono::steady_clock::now() < end) {
    if (waitpid(pid, &status, WNOHANG) == pid) return status;
    std::this_thread::sleep_for(kTurn);
  }
  kill(pid, SIGKILL);
  return WaitFor(pid);
}

}  // namespace cow::exporter
