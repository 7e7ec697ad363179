// Runs attempts in a child process that confines itself first, and compares their outcomes. Use from one thread.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <functional>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "exporter/sandbox/sandbox.h"
#include "tests/support/child_process.h"

namespace cow::test {

// Skips where nothing can be confined.
class ConfinedTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!exporter::SandboxIsComplete(exporter::SandboxMode::kAuto)) {
      GTEST_SKIP() << "the build has a sanitizer, or the kernel lacks seccomp filters or Landlock";
    }
  }
};

struct Attempt {
  std::string name;
  std::function<int()> run;  // returns an error number; 0: it worked
  int expected = 0;
};
using Attempts = std::vector<Attempt>;

inline constexpr int kWorks = 0;

// The outcome of a system call.
inline int ErrorOf(int64_t result) { return result < 0 ? errno : 0; }

template <class... Arguments>
int Call(int64_t number, Arguments... arguments) {
  return ErrorOf(syscall(number, arguments...));
}

// Runs `body` in a child. Returns its value; -1 if a signal ended it, and -2 if it threw.
inline int InChild(const std::function<int()>& body) {
  ChildProcess child([&body](const ChildProcess::Steps&) {
    try {
      return body();
    } catch (const std::exception& error) {
      std::fprintf(stderr, "in the child: %s\n", error.what());
      return 254;
    }
  });
  const int status = child.Reap();
  return status == 254 ? -2 : status;
}

// `confine` runs first in the child. Later attempts run after earlier ones, in the same process.
inline void CheckConfined(const std::function<void()>& confine, const Attempts& attempts) {
  constexpr int kNotRun = -1;
  const size_t bytes = attempts.size() * sizeof(int);
  auto* outcomes = static_cast<int*>(mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(outcomes, MAP_FAILED);  // NOLINT: the C macro casts
  std::fill_n(outcomes, attempts.size(), kNotRun);
  const int status = InChild([&] {
    confine();
    for (size_t i = 0; i < attempts.size(); ++i) outcomes[i] = attempts[i].run();
    return 0;
  });
  EXPECT_EQ(status, 0);
  for (size_t i = 0; i < attempts.size(); ++i) {
    if (outcomes[i] == kNotRun) {
      ADD_FAILURE() << attempts[i].name << ": the child ended here";
      break;
    }
    EXPECT_EQ(outcomes[i], attempts[i].expected)
        << attempts[i].name << ": " << std::generic_category().message(outcomes[i]);
  }
  munmap(outcomes, bytes);
}

inline int TryOpen(const char* path, int flags) { return ErrorOf(openat(AT_FDCWD, path, flags, 0600)); }

inline int TryThread() {
  bool ran = false;
  std::thread([&ran] { ran = true; }).join();
  return ran ? 0 : EINVAL;
}

// Maps a page with this protection.
inline int TryMapping(int protection) {
  void* page = mmap(nullptr, 4096, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return page == MAP_FAILED ? errno : 0;  // NOLINT: the C macro casts
}

// Makes a page executable later.
inline int TryExecutableLater() {
  static std::array<char, 8192> memory;
  auto start = reinterpret_cast<uintptr_t>(memory.data());
  start = (start + 4095) & ~uintptr_t{4095};
  return ErrorOf(mprotect(reinterpret_cast<void*>(start), 4096, PROT_READ | PROT_EXEC));  // NOLINT
}

// Attempts that no process of a running exporter may make, all with EPERM: system calls with the argument -1
// everywhere, which none of them accepts.
Attempts RefusedToAll();

}  // namespace cow::test
