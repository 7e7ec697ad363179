#include <sys/prctl.h>
#include <sys/resource.h>

#include <fstream>
#include <stop_token>
#include <string>
#include <thread>

#include "tests/unit/exporter/sandbox/confined.h"

namespace cow::exporter {
namespace {

using test::CheckConfined;

// Returns a field of /proc/self/status. Read it before the process confines itself, or as root.
std::string Status(const std::string& name) {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(name + ":\t")) return line.substr(name.size() + 2);
  }
  return "";
}

int TryState(const SandboxState& state, bool seccomp, bool landlock, size_t missing) {
  return state.seccomp == seccomp && state.landlock == landlock && state.missing.size() == missing ? 0 : EINVAL;
}

TEST(SandboxModesTest, OffChangesNothing) {
  for (const auto confine : {&ConfineReader, &ConfineFront}) {
    SandboxState state;
    CheckConfined([&] { state = confine(SandboxMode::kOff); },
                  {{"state", [&] { return TryState(state, false, false, 1); }, 0},
                   {"no_new_privs", [] { return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0); },
                    prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)},
                   {"dumpable", [] { return prctl(PR_GET_DUMPABLE, 0, 0, 0, 0); }, 1},
                   {"seccomp", [] { return Status("Seccomp") == "0" ? 0 : 1; }, Status("Seccomp") == "0" ? 0 : 1}});
  }
  EXPECT_FALSE(SandboxIsComplete(SandboxMode::kOff));
}

#ifdef COW_SANITIZED

TEST(SandboxModesTest, SanitizersExcludeIt) {
  EXPECT_EQ(ConfineReader(SandboxMode::kAuto).missing, std::vector<std::string>{"built with a sanitizer"});
  EXPECT_FALSE(SandboxIsComplete(SandboxMode::kAuto));
  EXPECT_THROW(ConfineReader(SandboxMode::kRequire), std::runtime_error);
}

#else

class SandboxStateTest : public test::ConfinedTest {};

TEST_F(SandboxStateTest, IsTold) {
  SandboxState state;
  CheckConfined([&] { state = ConfineFront(SandboxMode::kAuto); },
                {{"state", [&] { return TryState(state, true, true, 0); }, 0},
                 {"text", [&] { return InForce(state) == "seccomp and Landlock" ? 0 : EINVAL; }, 0}});
  CheckConfined([&] { state = ConfineReader(SandboxMode::kAuto); },
                {{"state", [&] { return TryState(state, true, false, 0); }, 0},
                 {"text", [&] { return InForce(state) == "seccomp" ? 0 : EINVAL; }, 0},
                 {"no_new_privs", [] { return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0); }, 1},
                 {"dumpable", [] { return prctl(PR_GET_DUMPABLE, 0, 0, 0, 0); }, 0},
                 {"filter", [] { return Status("Seccomp") == "2" ? 0 : EINVAL; }, 0}});
}

// The filter of the first refuses the system calls of the second.
TEST_F(SandboxStateTest, MissingPartsAreNamed) {
  SandboxState state;
  const auto require_again = [] {
    try {
      ConfineFront(SandboxMode::kRequire);
      return EINVAL;
    } catch (const std::runtime_error& error) {
      return std::string(error.what()).find("privileges") == std::string::npos ? ENOENT : 0;
    }
  };
  CheckConfined(
      [&] {
        ConfineReader(SandboxMode::kAuto);
        state = ConfineFront(SandboxMode::kAuto);
      },
      {{"state", [&] { return TryState(state, false, false, 3); }, 0}, {"required", require_again, 0}});
}

// Threads would stay outside of the domain.
TEST_F(SandboxStateTest, DomainsNeedOneThread) {
  const int error = test::InChild([] {
    const std::jthread thread([](const std::stop_token& stop) {
      while (!stop.stop_requested()) std::this_thread::yield();
    });
    const SandboxState state = ConfineFront(SandboxMode::kAuto);
    return state.missing == std::vector<std::string>{"Landlock: the process has other threads"} ? 0 : 1;
  });
  EXPECT_EQ(error, 0);
}

TEST_F(SandboxStateTest, CoversThreadsThatRunAlready) {
  const int error = test::InChild([] {
    std::array<int, 2> go{};
    int outcome = -1;
    if (pipe(go.data()) != 0) return 1;
    std::thread thread([&] {
      char byte = 0;
      if (read(go[0], &byte, 1) == 1) outcome = test::Call(SYS_openat, AT_FDCWD, "/dev/null", O_WRONLY);
    });
    ConfineReader(SandboxMode::kRequire);
    if (write(go[1], "x", 1) != 1) return 1;
    thread.join();
    return outcome == EPERM ? 0 : 1;
  });
  EXPECT_EQ(error, 0);
}

#endif

}  // namespace
}  // namespace cow::exporter
