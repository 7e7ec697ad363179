// What the process that parses files may still do, tried from inside, and seen from outside.
#include "collectors/symbols/confinement.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "collectors/symbols/code_maps.h"
#include "collectors/symbols/symbolizer.h"
#include "tests/support/child_process.h"
#include "tests/unit/symbols/target.h"

namespace cow::symbols {
namespace {

#ifdef COW_SANITIZED
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

struct Attempt {
  const char* name;
  std::function<int64_t()> run;
};

// Runs the attempts in a child that has confined itself. Returns the names of those with another outcome: 0 is success.
std::string Unexpected(const std::vector<Attempt>& attempts, int expected_error) {
  std::string names;
  auto* outcomes = static_cast<int*>(
      mmap(nullptr, attempts.size() * sizeof(int), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  test::ChildProcess child([&](const test::ChildProcess::Steps&) {
    DropRights();
    ConfineKeeper();
    ConfineWorker();
    for (size_t i = 0; i < attempts.size(); ++i) {
      errno = 0;
      outcomes[i] = attempts[i].run() < 0 ? errno : 0;
    }
    return 0;
  });
  if (child.Reap() != 0) names += "the child failed; ";
  for (size_t i = 0; i < attempts.size(); ++i) {
    if (outcomes[i] != expected_error)
      names += std::string(attempts[i].name) + " " + std::to_string(outcomes[i]) + "; ";
  }
  munmap(outcomes, attempts.size() * sizeof(int));
  return names;
}

TEST(ConfinementTest, RefusesWhatParsingDoesNotNeed) {
  if (kSanitized) GTEST_SKIP() << "the build has a sanitizer";
  const pid_t parent = getpid();
  std::array<char*, 1> nothing{nullptr};
  const std::vector<Attempt> refused{
      {"open", [] { return syscall(SYS_openat, AT_FDCWD, "/dev/null", O_RDONLY); }},
      {"open a path", [] { return syscall(SYS_openat, AT_FDCWD, "/", O_PATH); }},
      {"create", [] { return syscall(SYS_openat, AT_FDCWD, "/tmp/x", O_CREAT | O_RDWR, 0600); }},
      {"execute", [&nothing] { return execve("/bin/true", nothing.data(), nothing.data()); }},
      {"socket", [] { return socket(AF_INET, SOCK_STREAM, 0); }},
      {"local socket", [] { return socket(AF_UNIX, SOCK_STREAM, 0); }},
      {"fork", [] { return syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0); }},
      {"thread", [] { return syscall(SYS_clone, CLONE_VM | CLONE_THREAD | CLONE_SIGHAND, 0, 0, 0, 0); }},
      {"signal", [parent] { return kill(parent, 0); }},
      {"signal a thread", [parent] { return syscall(SYS_tgkill, parent, parent, 0); }},
      {"ptrace", [parent] { return ptrace(PTRACE_SEIZE, parent, nullptr, nullptr); }},
      {"executable memory",
       [] {
         return mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? -1 : 0;
       }},
      {"unlink", [] { return unlink("/tmp/cow_no_such_file"); }},
      {"stat of a path", [] { return syscall(SYS_newfstatat, AT_FDCWD, "/", nullptr, 0); }},
      {"prctl", [] { return prctl(PR_SET_DUMPABLE, 1, 0, 0, 0); }},
      {"perf_event_open", [] { return syscall(SYS_perf_event_open, nullptr, 0, -1, -1, 0); }},
      {"bpf", [] { return syscall(SYS_bpf, 0, nullptr, 0); }},
      {"ioctl", [] { return syscall(SYS_ioctl, 0, 0, 0); }},
      {"mount", [] { return syscall(SYS_mount, nullptr, nullptr, nullptr, 0, nullptr); }},
      {"lower limits", [] { return syscall(SYS_prlimit64, 0, RLIMIT_AS, nullptr, nullptr); }}};
  EXPECT_EQ(Unexpected(refused, EPERM), "");
}

TEST(ConfinementTest, RefusesWhatTheKeeperDoesNotNeed) {
  if (kSanitized) GTEST_SKIP() << "the build has a sanitizer";
  test::ChildProcess child([](const test::ChildProcess::Steps&) {
    DropRights();
    ConfineKeeper();
    std::array<char*, 1> nothing{nullptr};
    const bool refused = syscall(SYS_openat, AT_FDCWD, "/dev/null", O_RDONLY) < 0 &&
                         execve("/bin/true", nothing.data(), nothing.data()) < 0 &&
                         socket(AF_UNIX, SOCK_STREAM, 0) < 0 &&
                         syscall(SYS_clone, SIGCHLD | CLONE_NEWUSER, 0, 0, 0, 0) < 0;
    const pid_t forked = fork();
    if (forked == 0) _exit(0);
    return refused && forked > 0 ? 0 : 1;
  });
  EXPECT_EQ(child.Reap(), 0);
}

TEST(ConfinementTest, AllowsWhatParsingNeeds) {
  if (kSanitized) GTEST_SKIP() << "the build has a sanitizer";
  const procfs::FileDescriptor file(open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(file.valid());
  std::array<char, 4> bytes{};
  struct stat status {};
  const std::vector<Attempt> allowed{
      {"read", [&] { return pread(file.get(), bytes.data(), bytes.size(), 0); }},
      {"map",
       [&] { return mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, file.get(), 0) == MAP_FAILED ? -1 : 0; }},
      {"fstat", [&] { return fstat(file.get(), &status); }},
      {"duplicate", [&] { return fcntl(file.get(), F_DUPFD_CLOEXEC, 0); }},
      {"memory", [] { return std::vector<char>(size_t{64} << 20U).empty() ? -1 : 0; }}};
  EXPECT_EQ(Unexpected(allowed, 0), "");
}

TEST(ConfinementTest, BoundsMemory) {
  if (kSanitized) GTEST_SKIP() << "the build has a sanitizer";
  const std::vector<Attempt> attempts{{"huge", [] {
                                         return mmap(nullptr, size_t{5} << 30U, PROT_READ | PROT_WRITE,
                                                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED
                                                    ? -1
                                                    : 0;
                                       }}};
  EXPECT_EQ(Unexpected(attempts, ENOMEM), "");
}

std::string Field(pid_t pid, const std::string& key) {
  std::ifstream status("/proc/" + std::to_string(pid) + "/status");
  std::string line;
  while (std::getline(status, line)) {
    if (line.starts_with(key + ":\t")) return line.substr(key.size() + 2);
  }
  return {};
}

TEST(ConfinementTest, HoldsForTheProcessesThatRun) {
  Symbolizer symbolizer;
  CodeMaps maps;
  const test::Target target(test::TargetPath("pie"));
  ASSERT_TRUE(maps.Add(target.pid()));
  ASSERT_EQ(symbolizer.Resolve(maps.Locate(target.pid(), target.At("alpha"))).function, "alpha");
  const pid_t worker = test::FirstChild(symbolizer.keeper());
  ASSERT_GT(worker, 0);
  for (const pid_t pid : {symbolizer.keeper(), worker}) {
    for (const char* set : {"CapInh", "CapPrm", "CapEff", "CapAmb"}) {
      EXPECT_EQ(Field(pid, set), "0000000000000000") << set;
    }
    EXPECT_EQ(Field(pid, "NoNewPrivs"), "1");
    EXPECT_EQ(Field(pid, "Seccomp"), kSanitized ? "0" : "2");
  }
}

}  // namespace
}  // namespace cow::symbols
