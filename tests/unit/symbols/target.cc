#include "tests/unit/symbols/target.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <fstream>
#include <stdexcept>
#include <system_error>
#include <utility>

namespace cow::test {
namespace {

std::pair<procfs::FileDescriptor, procfs::FileDescriptor> MakePipe() {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) throw std::system_error(errno, std::generic_category(), "pipe2");
  return {procfs::FileDescriptor(ends[0]), procfs::FileDescriptor(ends[1])};
}

}  // namespace

std::string TargetPath(const std::string& kind) { return std::string(COW_TARGETS) + "/symbols_target_" + kind; }
std::string TargetLibrary() { return COW_LIBRARY; }

pid_t FirstChild(pid_t pid) {
  const std::string id = std::to_string(pid);
  pid_t child = 0;
  std::ifstream("/proc/" + id + "/task/" + id + "/children") >> child;
  return child;
}

Target::Target(const std::string& path, const std::function<bool()>& before) {
  auto [their_input, our_input] = MakePipe();
  auto [our_output, their_output] = MakePipe();
  pid_ = fork();
  if (pid_ < 0) throw std::system_error(errno, std::generic_category(), "fork");
  if (pid_ == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(their_input.get(), STDIN_FILENO);
    dup2(their_output.get(), STDOUT_FILENO);
    if (!before || before()) execl(path.c_str(), path.c_str(), nullptr);
    _exit(127);
  }
  input_ = std::move(our_input);
  output_ = std::move(our_output);
  their_output = procfs::FileDescriptor();
  ReadList();
}

Target::~Target() {
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
}

void Target::Command(const std::string& line) {
  const std::string text = line + "\n";
  if (write(input_.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
    throw std::system_error(errno, std::generic_category(), line);
  }
  ReadList();
}

void Target::ReadList() {
  std::string line;
  char each = 0;
  while (read(output_.get(), &each, 1) == 1) {
    if (each != '\n') {
      line += each;
      continue;
    }
    if (line.empty()) return;
    const size_t blank = line.find(' ');
    addresses_[line.substr(0, blank)] = std::stoull(line.substr(blank + 1));
    line.clear();
  }
  throw std::runtime_error("the program ended");
}

}  // namespace cow::test
