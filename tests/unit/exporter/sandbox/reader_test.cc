#include <dlfcn.h>
#include <linux/perf_event.h>
#include <linux/sched.h>
#include <pwd.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>

#include <csignal>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>

#include "tests/unit/exporter/sandbox/confined.h"

namespace cow::exporter {
namespace {

using test::Attempts;
using test::Call;
using test::CheckConfined;
using test::ErrorOf;
using test::kWorks;
using test::TryOpen;

class ReaderSandboxTest : public test::ConfinedTest {};

void BecomeReader() { ConfineReader(SandboxMode::kRequire); }

int TrySocket(int family, int type) { return ErrorOf(socket(family, type | SOCK_CLOEXEC, 0)); }

TEST_F(ReaderSandboxTest, RefusesWhatNoProcessNeeds) { CheckConfined(&BecomeReader, test::RefusedToAll()); }

TEST_F(ReaderSandboxTest, OnlyRecordingReaderOpensPerfEvents) {
  // The kernel refuses attributes of this size once the filter has let the call pass.
  const auto open_event = [](unsigned long flags) {
    perf_event_attr attributes{};
    attributes.size = 1;
    return Call(SYS_perf_event_open, &attributes, 0, -1, -1, flags);
  };
  const auto open_closing = [open_event] { return open_event(PERF_FLAG_FD_CLOEXEC); };
  CheckConfined(&BecomeReader, Attempts{{"perf_event_open", open_closing, EPERM}});
  CheckConfined([] { ConfineRecordingReader(SandboxMode::kRequire); },
                Attempts{{"perf_event_open", open_closing, E2BIG},
                         {"inherited by programs", [open_event] { return open_event(0); }, EPERM}});
}

TEST_F(ReaderSandboxTest, OpensNothingForWriting) {
  Attempts attempts;
  for (const int flags :
       {O_WRONLY, O_RDWR, O_ACCMODE, O_WRONLY | O_CREAT, O_RDONLY | O_CREAT, O_RDONLY | O_TRUNC, O_RDONLY | O_APPEND,
        O_TMPFILE | O_RDWR, O_TMPFILE | O_WRONLY, O_RDWR | O_CLOEXEC | O_DSYNC}) {
    for (const char* path : {"/dev/null", "/tmp", "/proc/self/mem", "/proc/self/clear_refs"}) {
      attempts.push_back(
          {std::string(path) + " " + std::to_string(flags), [=] { return TryOpen(path, flags); }, EPERM});
    }
  }
#ifdef SYS_open
  attempts.push_back({"open", [] { return Call(SYS_open, "/dev/null", O_WRONLY); }, EPERM});
  attempts.push_back({"open to read", [] { return Call(SYS_open, "/dev/null", O_RDONLY); }, kWorks});
  attempts.push_back({"creat", [] { return Call(SYS_creat, "/tmp/cow_sandbox", 0600); }, EPERM});
  attempts.push_back({"unlink", [] { return Call(SYS_unlink, "/nonexistent"); }, EPERM});
  attempts.push_back({"rename", [] { return Call(SYS_rename, "/nonexistent", "/nonexistent"); }, EPERM});
  attempts.push_back({"fork", [] { return Call(SYS_fork); }, EPERM});
  attempts.push_back({"chmod", [] { return Call(SYS_chmod, "/nonexistent", 0); }, EPERM});
#endif
  attempts.push_back({"unlinkat", [] { return ErrorOf(unlinkat(AT_FDCWD, "/nonexistent", 0)); }, EPERM});
  CheckConfined(&BecomeReader, attempts);
}

TEST_F(ReaderSandboxTest, ReachesNoOtherProcess) {
  const pid_t other = getpid();
  const int program = open("/bin/true", O_PATH | O_CLOEXEC);
  const Attempts attempts{
      {"kill", [other] { return ErrorOf(kill(other, 0)); }, EPERM},
      {"kill all", [] { return ErrorOf(kill(-1, 0)); }, EPERM},
      {"kill the group", [] { return ErrorOf(kill(0, 0)); }, EPERM},
      {"tgkill", [other] { return Call(SYS_tgkill, other, other, 0); }, EPERM},
      {"fork", [] { return Call(SYS_clone, SIGCHLD, 0, 0, 0, 0); }, EPERM},
      {"a thread in a namespace", [] { return Call(SYS_clone, CLONE_THREAD | CLONE_NEWNET, 0, 0, 0, 0); }, EPERM},
      {"execve", [] { return ErrorOf(execl("/bin/true", "true", nullptr)); }, EPERM},
      {"execveat", [program] { return Call(SYS_execveat, program, "", nullptr, nullptr, AT_EMPTY_PATH); }, EPERM},
      {"prlimit of another", [other] { return ErrorOf(prlimit(other, RLIMIT_CORE, nullptr, nullptr)); }, EPERM},
      {"capset", [] { return Call(SYS_capset, 0, 0); }, EPERM},
      {"seccomp", [] { return Call(SYS_seccomp, 0, 0, 0); }, EPERM},
  };
  CheckConfined(&BecomeReader, attempts);
  close(program);
}

TEST_F(ReaderSandboxTest, ReachesNoNetwork) {
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  const Attempts attempts{
      {"AF_INET", [] { return TrySocket(AF_INET, SOCK_STREAM); }, EPERM},
      {"AF_INET6", [] { return TrySocket(AF_INET6, SOCK_DGRAM); }, EPERM},
      {"AF_NETLINK", [] { return TrySocket(AF_NETLINK, SOCK_RAW); }, EPERM},
      {"AF_PACKET", [] { return TrySocket(AF_PACKET, SOCK_RAW); }, EPERM},
      {"AF_VSOCK", [] { return TrySocket(AF_VSOCK, SOCK_STREAM); }, EPERM},
      {"AF_UNIX", [] { return TrySocket(AF_UNIX, SOCK_STREAM); }, kWorks},
      {"accept", [listener] { return ErrorOf(accept(listener, nullptr, nullptr)); }, EPERM},
      {"accept4", [listener] { return ErrorOf(accept4(listener, nullptr, nullptr, 0)); }, EPERM},
      {"listen", [listener] { return ErrorOf(listen(listener, 1)); }, EPERM},
      {"SIOCSIFFLAGS", [listener] { return ErrorOf(ioctl(listener, 0x8914, nullptr)); }, EPERM},
      {"TIOCSTI", [] { return ErrorOf(ioctl(0, TIOCSTI, "x")); }, EPERM},
  };
  CheckConfined(&BecomeReader, attempts);
  close(listener);
}

TEST_F(ReaderSandboxTest, MapsNoWritableCode) {
  CheckConfined(&BecomeReader, {{"writable and executable",
                                 [] { return test::TryMapping(PROT_READ | PROT_WRITE | PROT_EXEC); }, EPERM},
                                {"executable later", &test::TryExecutableLater, EPERM},
                                {"writable", [] { return test::TryMapping(PROT_READ | PROT_WRITE); }, kWorks}});
}

int TryListing() {
  std::error_code error;
  size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", error)) count += entry.path().empty() ? 0U : 1U;
  return error ? error.value() : (count > 0 ? 0 : ENOENT);
}

// A sealed file in memory, as the reader hands it to the front.
int TrySealedFile() {
  const int file = memfd_create("snapshot", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (file < 0 || ftruncate(file, 4096) != 0 || write(file, "x", 1) != 1) return errno;
  return ErrorOf(fcntl(file, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL));
}

int TryUnixConnection() {
  const int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strcpy(address.sun_path, "/nonexistent");  // NOLINT: fits
  return ErrorOf(connect(client, reinterpret_cast<const sockaddr*>(&address), sizeof(address)));
}

int TryUserName() {
  passwd entry{};
  passwd* found = nullptr;
  std::array<char, 4096> text{};
  const int error = getpwuid_r(0, &entry, text.data(), text.size(), &found);
  return error == 0 && found == nullptr ? ENOENT : error;
}

int TryThreadClock() {
  clockid_t clock{};
  timespec time{};
  int error = EINVAL;
  std::thread thread([&] {
    if (pthread_getcpuclockid(pthread_self(), &clock) == 0) error = ErrorOf(clock_gettime(clock, &time));
  });
  thread.join();
  return error;
}

TEST_F(ReaderSandboxTest, DoesItsWork) {
  std::array<int, 2> pair{};
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair.data()), 0);
  const Attempts attempts{
      {"open", [] { return TryOpen("/proc/self/status", O_RDONLY | O_CLOEXEC); }, kWorks},
      {"open with flags", [] { return TryOpen("/proc", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK); }, kWorks},
      {"O_PATH", [] { return TryOpen("/proc/1", O_PATH | O_CLOEXEC); }, kWorks},
      {"list", &TryListing, kWorks},
      {"thread", &test::TryThread, kWorks},
      {"clock of a thread", &TryThreadClock, kWorks},
      {"sealed file", &TrySealedFile, kWorks},
      {"unix socket", &TryUnixConnection, ENOENT},
      {"name of a user", &TryUserName, kWorks},
      {"a library", [] { return dlopen("libresolv.so.2", RTLD_NOW) != nullptr ? 0 : EINVAL; }, kWorks},
      {"sd_notify", [] { return std::max(0, -sd_notify(0, "STATUS=x")); }, kWorks},
      {"send", [&pair] { return ErrorOf(send(pair[0], "x", 1, MSG_NOSIGNAL)); }, kWorks},
      {"signal to itself", [] { return ErrorOf(kill(getpid(), 0)); }, kWorks},
      {"abort's call", [] { return Call(SYS_tgkill, getpid(), gettid(), 0); }, kWorks},
      {"limit", [] { return ErrorOf(prlimit(0, RLIMIT_NOFILE, nullptr, nullptr)); }, kWorks},
      {"kcmp", [] { return Call(SYS_kcmp, getpid(), getpid(), 1, 0, 0); }, kWorks},
  };
  CheckConfined(&BecomeReader, attempts);
}

}  // namespace
}  // namespace cow::exporter
