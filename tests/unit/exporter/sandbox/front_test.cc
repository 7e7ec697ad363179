#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>

#include "exporter/sandbox/landlock.h"
#include "tests/unit/exporter/sandbox/confined.h"

namespace cow::exporter {
namespace {

using test::Attempts;
using test::Call;
using test::CheckConfined;
using test::ErrorOf;
using test::kWorks;
using test::TryOpen;

class FrontSandboxTest : public test::ConfinedTest {};

void BecomeFront() { ConfineFront(SandboxMode::kRequire); }

TEST_F(FrontSandboxTest, RefusesWhatNoProcessNeeds) { CheckConfined(&BecomeFront, test::RefusedToAll()); }

TEST_F(FrontSandboxTest, ReachesNothing) {
  const pid_t other = getpid();
  const int program = open("/bin/true", O_PATH | O_CLOEXEC);
  const int root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const int unconnected = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  const sockaddr_in nowhere{AF_INET, htons(9), {htonl(INADDR_LOOPBACK)}, {}};
  const auto* address = reinterpret_cast<const sockaddr*>(&nowhere);
  const Attempts attempts{
      {"open", [] { return TryOpen("/dev/null", O_RDONLY); }, EPERM},
      {"open to write", [] { return TryOpen("/dev/null", O_WRONLY); }, EPERM},
      {"O_PATH", [] { return TryOpen("/", O_PATH); }, EPERM},
      {"open in a directory", [root] { return ErrorOf(openat(root, "etc", O_RDONLY)); }, EPERM},
      {"unlinkat", [root] { return ErrorOf(unlinkat(root, "nonexistent", 0)); }, EPERM},
      {"readlinkat", [root] { return Call(SYS_readlinkat, root, "bin", nullptr, 0); }, EPERM},
      {"stat", [] { return Call(SYS_newfstatat, AT_FDCWD, "/", nullptr, 0); }, EPERM},
      {"getdents64", [root] { return Call(SYS_getdents64, root, nullptr, 0); }, EPERM},
      {"memfd_create", [] { return ErrorOf(memfd_create("x", 0)); }, EPERM},
      {"socket", [] { return ErrorOf(socket(AF_UNIX, SOCK_STREAM, 0)); }, EPERM},
      {"socketpair", [] { return ErrorOf(socketpair(AF_UNIX, SOCK_STREAM, 0, nullptr)); }, EPERM},
      {"connect", [=] { return ErrorOf(connect(unconnected, address, sizeof(nowhere))); }, EPERM},
      {"listen", [=] { return ErrorOf(listen(unconnected, 1)); }, EPERM},
      {"sendto", [=] { return ErrorOf(sendto(unconnected, "x", 1, 0, address, sizeof(nowhere))); }, EPERM},
      {"fast open", [=] { return ErrorOf(send(unconnected, "x", 1, MSG_FASTOPEN)); }, EPERM},
      {"fast open by sendmsg", [=] { return Call(SYS_sendmsg, unconnected, nullptr, MSG_FASTOPEN); }, EPERM},
      {"filters of sockets", [=] { return ErrorOf(setsockopt(unconnected, SOL_SOCKET, SO_ATTACH_FILTER, "", 0)); },
       EPERM},
      {"kill", [other] { return ErrorOf(kill(other, 0)); }, EPERM},
      {"kill all", [] { return ErrorOf(kill(-1, 0)); }, EPERM},
      {"kill the group", [] { return ErrorOf(kill(0, 0)); }, EPERM},
      {"tgkill", [other] { return Call(SYS_tgkill, other, other, 0); }, EPERM},
      {"pidfd_open", [other] { return Call(SYS_pidfd_open, other, 0); }, EPERM},
      {"kcmp", [] { return Call(SYS_kcmp, getpid(), getpid(), 1, 0, 0); }, EPERM},
      {"fork", [] { return Call(SYS_clone, SIGCHLD, 0, 0, 0, 0); }, EPERM},
      {"wait4", [] { return Call(SYS_wait4, -1, nullptr, WNOHANG, nullptr); }, EPERM},
      {"execve", [] { return ErrorOf(execl("/bin/true", "true", nullptr)); }, EPERM},
      {"execveat", [program] { return Call(SYS_execveat, program, "", nullptr, nullptr, AT_EMPTY_PATH); }, EPERM},
      {"executable", [] { return test::TryMapping(PROT_READ | PROT_EXEC); }, EPERM},
      {"executable later", &test::TryExecutableLater, EPERM},
      {"prlimit", [other] { return ErrorOf(prlimit(other, RLIMIT_CORE, nullptr, nullptr)); }, EPERM},
      {"a limit",
       [] {
         return ErrorOf(setrlimit(RLIMIT_CORE, std::array{rlimit{1, 1}}.data()));
       },
       EPERM},
      {"prctl", [] { return ErrorOf(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)); }, EPERM},
      {"capset", [] { return Call(SYS_capset, 0, 0); }, EPERM},
      {"seccomp", [] { return Call(SYS_seccomp, 0, 0, 0); }, EPERM},
      {"TIOCSTI", [] { return ErrorOf(ioctl(0, TIOCSTI, "x")); }, EPERM},
      {"F_SETOWN", [] { return ErrorOf(fcntl(0, F_SETOWN, 1)); }, EPERM},
  };
  CheckConfined(&BecomeFront, attempts);
  close(program);
  close(root);
  close(unconnected);
}

// Accepts a connection, answers it and closes it, like the HTTP server.
int TryServing(int listener) {
  const int accepted = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (accepted < 0) return errno;
  const int on = 1;
  sockaddr_in peer{};
  socklen_t bytes = sizeof(peer);
  if (setsockopt(accepted, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) != 0 ||
      getpeername(accepted, reinterpret_cast<sockaddr*>(&peer), &bytes) != 0 ||
      send(accepted, "x", 1, MSG_NOSIGNAL) != 1 || shutdown(accepted, SHUT_WR) != 0) {
    return errno;
  }
  return ErrorOf(close(accepted));
}

// Maps a file that was received before.
int TrySnapshot(int file) {
  struct stat status {};
  if (fstat(file, &status) != 0 || fcntl(file, F_GET_SEALS) < 0) return errno;
  void* text = mmap(nullptr, 4096, PROT_READ, MAP_SHARED, file, 0);
  return text == MAP_FAILED ? errno : ErrorOf(munmap(text, 4096));  // NOLINT: the C macro casts
}

int TryMuchMemory() {
  for (int i = 0; i < 100; ++i) {
    void* memory = std::malloc(size_t{1} << 20U);
    if (memory == nullptr) return errno;
    std::free(memory);
  }
  return 0;
}

// glibc reads the time zone.
int TryDate() {
  const std::time_t now = 1;
  std::tm parts{};
  return gmtime_r(&now, &parts) != nullptr && parts.tm_year == 70 ? 0 : EINVAL;
}

TEST_F(FrontSandboxTest, DoesItsWork) {
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{AF_INET, 0, {htonl(INADDR_LOOPBACK)}, {}};
  socklen_t bytes = sizeof(address);
  ASSERT_EQ(bind(listener, reinterpret_cast<const sockaddr*>(&address), bytes), 0);
  ASSERT_EQ(listen(listener, 1), 0);
  ASSERT_EQ(getsockname(listener, reinterpret_cast<sockaddr*>(&address), &bytes), 0);
  const int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ASSERT_EQ(connect(client, reinterpret_cast<const sockaddr*>(&address), bytes), 0);
  const int file = memfd_create("snapshot", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  ASSERT_EQ(ftruncate(file, 4096), 0);
  const Attempts attempts{
      {"serve", [listener] { return TryServing(listener); }, kWorks},
      {"snapshot", [file] { return TrySnapshot(file); }, kWorks},
      {"thread", &test::TryThread, kWorks},
      {"memory", &TryMuchMemory, kWorks},
      {"date", &TryDate, kWorks},
      {"duplicate", [listener] { return ErrorOf(fcntl(listener, F_DUPFD_CLOEXEC, 0)); }, kWorks},
      {"event", [] { return Call(SYS_eventfd2, 0, 0); }, kWorks},
      {"log", [] { return std::fprintf(stderr, "%s", "") == 0 ? 0 : EIO; }, kWorks},
      {"abort's call", [] { return Call(SYS_tgkill, getpid(), gettid(), 0); }, kWorks},
      {"stop listening", [listener] { return ErrorOf(shutdown(listener, SHUT_RD)); }, kWorks},
  };
  CheckConfined(&BecomeFront, attempts);
  close(file);
  close(client);
  close(listener);
}

// Without a filter, so that Landlock alone refuses.
TEST_F(FrontSandboxTest, LandlockAloneRefusesFilesAndConnections) {
  const sockaddr_in nowhere{AF_INET, htons(9), {htonl(INADDR_LOOPBACK)}, {}};
  const auto* address = reinterpret_cast<const sockaddr*>(&nowhere);
  const std::string file = testing::TempDir() + "cow_sandbox_" + std::to_string(getpid());
  close(open(file.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  Attempts attempts{
      {"open", [] { return TryOpen("/etc/passwd", O_RDONLY); }, EACCES},
      {"list", [] { return TryOpen("/", O_RDONLY | O_DIRECTORY); }, EACCES},
      {"create", [] { return TryOpen("/tmp/cow_sandbox", O_RDWR | O_CREAT); }, EACCES},
      {"execute", [] { return ErrorOf(execl("/bin/true", "true", nullptr)); }, EACCES},
      {"remove", [&file] { return ErrorOf(unlink(file.c_str())); }, EACCES},
  };
  if (LandlockVersion() >= 4) {
    const auto connected = [=] {
      return ErrorOf(connect(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), address, sizeof(nowhere)));
    };
    attempts.push_back({"connect", connected, EACCES});
  }
  if (LandlockVersion() >= 6) attempts.push_back({"signal", [] { return ErrorOf(kill(getppid(), 0)); }, EPERM});
  const auto enter = [] {
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    EnterLandlockDomain({});
  };
  CheckConfined(enter, attempts);
  unlink(file.c_str());
}

}  // namespace
}  // namespace cow::exporter
