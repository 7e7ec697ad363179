// Makes one system call inside of a running process and prints its result: a number, or the name of an error.
#include <seccomp.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <string>
#include <vector>

#include "tests/support/inject/thread.h"

namespace {

constexpr std::chrono::milliseconds kPatience{2000};
constexpr int64_t kLargestError = 4095;
constexpr int kKernelErrors = 512;  // the kernel's own, of an interrupted call

constexpr const char* kUsage =
    "Usage: cow_inject THREAD CALL [ARGUMENT]...\n"
    "Makes the system call inside of the thread. Prints its result or the name of the error, or \"blocked\".\n"
    "An argument is a number, text:TEXT (the address of that text), or zeros:N (the address of N zero bytes).\n";

// Appends what an argument points to, and returns the argument.
uint64_t Parse(const std::string& word, uint64_t scratch, std::string& bytes) {
  const uint64_t address = scratch + bytes.size();
  if (word.starts_with("text:")) {
    bytes += word.substr(std::strlen("text:")) + '\0';
    return address;
  }
  if (word.starts_with("zeros:")) {
    bytes.append(std::stoul(word.substr(std::strlen("zeros:"))), '\0');
    return address;
  }
  return word.starts_with('-') ? static_cast<uint64_t>(std::stoll(word, nullptr, 0)) : std::stoull(word, nullptr, 0);
}

int Run(const std::vector<std::string>& words) {
  if (words.size() < 2) {
    std::fputs(kUsage, stderr);
    return 2;
  }
  const int number = seccomp_syscall_resolve_name(words[1].c_str());
  if (number < 0) {
    std::fprintf(stderr, "cow_inject: this architecture has no call %s\n", words[1].c_str());
    return 3;
  }
  cow::test::StoppedThread thread(static_cast<pid_t>(std::stol(words[0])));
  std::string bytes;
  std::vector<uint64_t> arguments;
  for (size_t i = 2; i < words.size(); ++i) arguments.push_back(Parse(words[i], thread.scratch(), bytes));
  thread.WriteScratch(bytes);
  const int64_t result = thread.Call(number, arguments, kPatience);
  if (result <= -kKernelErrors && result >= -kLargestError) {
    std::puts("blocked");
  } else if (result < 0 && result >= -kLargestError) {
    const char* name = strerrorname_np(static_cast<int>(-result));
    std::puts(name != nullptr ? name : std::to_string(result).c_str());
  } else {
    std::puts(std::to_string(result).c_str());
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return Run({argv + 1, argv + argc});
  } catch (const std::exception& error) {
    std::fprintf(stderr, "cow_inject: %s\n", error.what());
    return 1;
  }
}
