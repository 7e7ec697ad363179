#include <linux/sched.h>
#include <netinet/in.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>

#include "tests/unit/exporter/sandbox/confined.h"

namespace cow::exporter {
namespace {

using test::Attempts;
using test::Call;
using test::CheckConfined;
using test::ErrorOf;
using test::kWorks;

// Has a directory with a unix socket, a directory beside it, and the program that may be started.
class LauncherSandboxTest : public test::ConfinedTest {
 protected:
  void SetUp() override {
    test::ConfinedTest::SetUp();
    if (IsSkipped()) return;
    std::string pattern = testing::TempDir() + "cow_launcher_XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
    for (const char* name : {"sockets", "others"}) std::filesystem::create_directory(directory_ + "/" + name);
    for (const std::string& path : {Socket(), OtherFile()}) {
      const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
      ASSERT_GE(file, 0);
      close(file);
    }
  }
  void TearDown() override {
    close(program_);
    close(other_program_);
    std::error_code ignored;
    if (!directory_.empty()) std::filesystem::remove_all(directory_, ignored);
  }

  std::string SocketDirectory() const { return directory_ + "/sockets"; }
  std::string Socket() const { return directory_ + "/sockets/s"; }
  std::string OtherFile() const { return directory_ + "/others/f"; }
  void Check(const Attempts& attempts) const {
    const std::vector<std::string> directories{SocketDirectory()};
    CheckConfined([&] { ConfineLauncher(SandboxMode::kRequire, program_, directories); }, attempts);
  }
  // Starts the program as the launcher does, and returns its exit status.
  int StartProgram() const { return Start(program_, ""); }
  int Start(int program, const char* path) const {
    return InFork([&] {
      std::array<char*, 2> arguments{const_cast<char*>("true"), nullptr};  // NOLINT: execveat's type
      std::array<char*, 1> environment{nullptr};
      return Call(SYS_execveat, program, path, arguments.data(), environment.data(), AT_EMPTY_PATH);
    });
  }
  static int InFork(const std::function<int()>& body) {
    const pid_t child = fork();
    if (child < 0) return errno;
    if (child == 0) _exit(body());
    int status = 0;
    if (waitpid(child, &status, 0) != child) return errno;
    return WIFEXITED(status) ? WEXITSTATUS(status) : ECHILD;
  }

  int program_ = open("/bin/true", O_RDONLY | O_CLOEXEC);
  int other_program_ = open("/bin/false", O_RDONLY | O_CLOEXEC);

 private:
  std::string directory_;
};

TEST_F(LauncherSandboxTest, RefusesWhatNoProcessNeeds) { Check(test::RefusedToAll()); }

TEST_F(LauncherSandboxTest, WritesNothingAndReachesNobody) {
  const pid_t other = getpid();
  const std::string& file = OtherFile();
  const int unconnected = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  Check({
      {"open to write", [&] { return ErrorOf(open(file.c_str(), O_WRONLY)); }, EPERM},
      {"create", [&] { return ErrorOf(open((file + "x").c_str(), O_RDONLY | O_CREAT, 0600)); }, EPERM},
      {"read", [&] { return ErrorOf(open(file.c_str(), O_RDONLY)); }, EACCES},
      {"read users", [] { return ErrorOf(open("/etc/passwd", O_RDONLY)); }, EACCES},
      {"remove another file", [&] { return ErrorOf(unlink(file.c_str())); }, EACCES},
      {"remove through the directory", [&] { return ErrorOf(unlink((SocketDirectory() + "/../others/f").c_str())); },
       EACCES},
      {"remove a directory", [&] { return ErrorOf(rmdir(SocketDirectory().c_str())); }, EPERM},
      {"socket", [] { return ErrorOf(socket(AF_UNIX, SOCK_STREAM, 0)); }, EPERM},
      {"connect", [=] { return ErrorOf(connect(unconnected, nullptr, 0)); }, EPERM},
      {"kill all", [] { return ErrorOf(kill(-1, SIGTERM)); }, EPERM},
      {"kill the group", [] { return ErrorOf(kill(0, SIGTERM)); }, EPERM},
      {"kill with another signal", [other] { return ErrorOf(kill(other, SIGSTOP)); }, EPERM},
      {"tgkill", [other] { return Call(SYS_tgkill, other, other, SIGTERM); }, EPERM},
      {"namespace", [] { return Call(SYS_clone, SIGCHLD | CLONE_NEWUSER, 0, 0, 0, 0); }, EPERM},
      {"execve", [] { return ErrorOf(execl("/bin/true", "true", nullptr)); }, EPERM},
      {"another descriptor", [&] { return Start(other_program_, ""); }, EPERM},
      {"another path", [&] { return Start(program_, "/bin/false"); }, EACCES},
      {"executable later", &test::TryExecutableLater, EPERM},
      {"prlimit", [other] { return ErrorOf(prlimit(other, RLIMIT_CORE, nullptr, nullptr)); }, EPERM},
      {"dumpable", [] { return prctl(PR_GET_DUMPABLE); }, 0},
  });
  close(unconnected);
}

TEST_F(LauncherSandboxTest, RemovesNoFilesWithoutSockets) {
  CheckConfined([&] { ConfineLauncher(SandboxMode::kRequire, program_); },
                {{"remove", [&] { return ErrorOf(unlink(Socket().c_str())); }, EPERM}});
}

// Kills a child that waits.
int TryKill() {
  const pid_t child = fork();
  if (child == 0) {
    pause();
    _exit(0);
  }
  int status = 0;
  if (kill(child, SIGKILL) != 0 || waitpid(child, &status, 0) != child) return errno;
  return WIFSIGNALED(status) ? 0 : EINVAL;
}

TEST_F(LauncherSandboxTest, DoesItsWork) {
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const sockaddr_in address{AF_INET, 0, {htonl(INADDR_LOOPBACK)}, {}};
  ASSERT_EQ(bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  const auto confine_further = [] {
    const SandboxState state = ConfineFront(SandboxMode::kRequire);
    return state.seccomp && state.landlock && open("/bin/true", O_RDONLY) < 0 ? 0 : EINVAL;
  };
  Check({
      {"start the program", [&] { return StartProgram(); }, kWorks},
      {"start it again", [&] { return StartProgram(); }, kWorks},
      {"kill and reap", &TryKill, kWorks},
      {"listen", [=] { return ErrorOf(listen(listener, 1)); }, kWorks},
      {"close", [=] { return ErrorOf(shutdown(listener, SHUT_RDWR)); }, kWorks},
      {"remove a socket", [&] { return ErrorOf(unlink(Socket().c_str())); }, kWorks},
      {"confine a front", [&] { return InFork(confine_further); }, kWorks},
      {"abort in a front", [] { return InFork([]() -> int { std::abort(); }); }, ECHILD},
  });
  close(listener);
}

}  // namespace
}  // namespace cow::exporter
