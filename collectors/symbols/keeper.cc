#include "collectors/symbols/keeper.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <exception>
#include <system_error>
#include <thread>
#include <utility>

#include "collectors/symbols/confinement.h"
#include "collectors/symbols/messages.h"

namespace cow::symbols {
namespace {

using procfs::FileDescriptor;

constexpr int kChannel = 3;  // the first descriptor after the standard streams
constexpr int kExitFailed = 1;

// A terminal's and a service manager's signals are for the exporter, which ends this process.
void ResetSignals() {
  for (int signal = 1; signal < NSIG; ++signal) std::signal(signal, SIG_DFL);
  for (const int signal : {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE, SIGUSR1, SIGUSR2}) std::signal(signal, SIG_IGN);
  sigset_t none;
  sigemptyset(&none);
  pthread_sigmask(SIG_SETMASK, &none, nullptr);
}

// Closes all descriptors but the standard streams and `channel`, which becomes kChannel. Returns false if a step fails.
bool KeepOnly(int channel) {
  if (channel != kChannel && dup3(channel, kChannel, O_CLOEXEC) < 0) return false;
  if (syscall(SYS_close_range, kChannel + 1U, ~0U, 0U) == 0) return true;
  // Before Linux 5.9.
  constexpr int kMaxOpen = 65536;
  for (int each = kChannel + 1; each < kMaxOpen; ++each) close(each);
  return true;
}

// Lets the standard streams lead to nothing.
bool SilenceStreams() {
  const int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
  for (int stream = 0; nothing >= 0 && stream < kChannel; ++stream) {
    if (dup2(nothing, stream) < 0) return false;
  }
  return nothing >= 0;
}

void End(pid_t& pid) {
  if (pid <= 0) return;
  kill(pid, SIGKILL);
  while (waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
  pid = -1;
}

// The keeper's process. Each message has the channel of a new parsing process.
[[noreturn]] void Run(Keeper::Work work) {
  const FileDescriptor control(kChannel);
  pid_t worker = -1;
  Message message;
  while (Receive(control, message, kNoDeadline) == Transfer::kDone) {
    End(worker);
    if (!message.descriptor.valid()) continue;
    worker = fork();
    if (worker != 0) continue;
    int code = kExitFailed;
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && KeepOnly(message.descriptor.get())) {
      code = work(FileDescriptor(kChannel));
    }
    _exit(code);
  }
  End(worker);
  _exit(0);
}

}  // namespace

Keeper::Keeper(Work work) {
  auto [ours, theirs] = MakeChannel();
  pid_ = fork();
  if (pid_ < 0) throw std::system_error(errno, std::generic_category(), "fork");
  if (pid_ == 0) {
    try {
      ResetSignals();
      prctl(PR_SET_NAME, "cow_symbols");
      // It may have the number of a standard stream that was closed.
      const int channel = fcntl(theirs.get(), F_DUPFD_CLOEXEC, kChannel);
      if (channel >= 0 && SilenceStreams() && KeepOnly(channel)) {
        DropRights();
        ConfineKeeper();
        Run(work);
      }
    } catch (const std::exception&) {  // the caller sees that the channel is closed
    }
    _exit(kExitFailed);
  }
  control_ = std::move(ours);
}

Keeper::~Keeper() {
  constexpr std::chrono::milliseconds kTurn{1};
  constexpr std::chrono::milliseconds kPatience{500};
  control_ = FileDescriptor();
  const auto end = std::chrono::steady_clock::now() + kPatience;
  while (waitpid(pid_, nullptr, WNOHANG) == 0) {
    if (std::chrono::steady_clock::now() >= end) {
      if (kill(pid_, SIGKILL) == 0) waitpid(pid_, nullptr, 0);
      return;
    }
    std::this_thread::sleep_for(kTurn);
  }
}

FileDescriptor Keeper::Replace() {
  constexpr std::chrono::seconds kPatience{1};
  auto [ours, theirs] = MakeChannel();
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  if (Send(control_, {}, {}, theirs.get(), deadline) != Transfer::kDone) return {};
  return std::move(ours);
}

}  // namespace cow::symbols
