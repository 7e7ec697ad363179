#include "tests/support/inject/thread.h"

#include <elf.h>
#include <fcntl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string_view>
#include <system_error>
#include <thread>
#include <vector>

namespace cow::test {
namespace {

#ifdef __aarch64__
constexpr std::string_view kInstruction{"\x01\x00\x00\xd4", 4};  // svc #0
#else
constexpr std::string_view kInstruction{"\x0f\x05", 2};  // syscall
// The kernel's own results of an interrupted call (include/linux/errno.h).
constexpr int64_t kRestartFirst = -514;
constexpr int64_t kRestartLast = -512;
constexpr int64_t kRestartBlock = -516;
#endif
constexpr uint64_t kRedZoneBytes = 128;
constexpr std::chrono::milliseconds kStopPatience{5000};

[[noreturn]] void Fail(const char* what) { throw std::system_error(errno, std::generic_category(), what); }

int64_t Trace(int request, pid_t thread, uintptr_t address, uintptr_t data) {
  return ptrace(static_cast<__ptrace_request>(request), thread, address, data);
}

bool IsSystemCallStop(int status) { return WIFSTOPPED(status) && WSTOPSIG(status) == (SIGTRAP | 0x80); }

}  // namespace

StoppedThread::StoppedThread(pid_t thread) : thread_(thread) {
  if (Trace(PTRACE_SEIZE, thread_, 0, PTRACE_O_TRACESYSGOOD) != 0) Fail("PTRACE_SEIZE");
  if (Trace(PTRACE_INTERRUPT, thread_, 0, 0) != 0) Fail("PTRACE_INTERRUPT");
  AwaitStop(kStopPatience);
  memory_ = open(("/proc/" + std::to_string(thread_) + "/mem").c_str(), O_RDWR | O_CLOEXEC);
  if (memory_ < 0) Fail("/proc/PID/mem");
  saved_ = Get();
#ifdef __aarch64__
  const uint64_t stack = saved_.sp;
#else
  const uint64_t stack = saved_.rsp;
#endif
  scratch_ = (stack - kRedZoneBytes - kScratchBytes) & ~uint64_t{15};
  if (pread(memory_, saved_scratch_.data(), kScratchBytes, static_cast<off_t>(scratch_)) != kScratchBytes) {
    Fail("reading the stack");
  }
  PrepareRestart();
}

StoppedThread::~StoppedThread() {
  if (pwrite(memory_, saved_scratch_.data(), kScratchBytes, static_cast<off_t>(scratch_)) < 0) {
    std::perror("restoring the stack");
  }
  iovec set{&saved_, sizeof(saved_)};
  Trace(PTRACE_SETREGSET, thread_, NT_PRSTATUS, reinterpret_cast<uintptr_t>(&set));
  Trace(PTRACE_DETACH, thread_, 0, 0);
  close(memory_);
}

// The kernel would restart an interrupted call when it resumes the thread, but does not after another call was made.
// arm64 has prepared its registers for that when it stops.
void StoppedThread::PrepareRestart() {
#ifndef __aarch64__
  const auto result = static_cast<int64_t>(saved_.rax);
  if (static_cast<int64_t>(saved_.orig_rax) >= 0) {
    if (result >= kRestartFirst && result <= kRestartLast) {
      saved_.rax = saved_.orig_rax;
      saved_.rip -= kInstruction.size();
    } else if (result == kRestartBlock) {
      saved_.rax = SYS_restart_syscall;
      saved_.rip -= kInstruction.size();
    }
  }
  saved_.orig_rax = ~uint64_t{0};  // no call is in progress
#endif
}

void StoppedThread::WriteScratch(const std::string& bytes) {
  if (bytes.size() > kScratchBytes) throw std::runtime_error("too many bytes for the scratch memory");
  if (pwrite(memory_, bytes.data(), bytes.size(), static_cast<off_t>(scratch_)) != static_cast<ssize_t>(bytes.size())) {
    Fail("writing to the stack");
  }
}

int64_t StoppedThread::Call(int64_t number, std::span<const uint64_t> arguments, std::chrono::milliseconds patience) {
  std::array<uint64_t, 6> all{};
  std::copy_n(arguments.begin(), std::min(arguments.size(), all.size()), all.begin());
  Registers registers = saved_;
#ifdef __aarch64__
  std::copy(all.begin(), all.end(), registers.regs);
  registers.regs[8] = static_cast<uint64_t>(number);
  registers.pc = FindInstruction();
#else
  registers.rax = static_cast<uint64_t>(number);
  registers.rdi = all[0];
  registers.rsi = all[1];
  registers.rdx = all[2];
  registers.r10 = all[3];
  registers.r8 = all[4];
  registers.r9 = all[5];
  registers.rip = FindInstruction();
#endif
  Set(registers);
  NextSystemCallStop(kStopPatience);
  NextSystemCallStop(patience);
#ifdef __aarch64__
  return static_cast<int64_t>(Get().regs[0]);
#else
  return static_cast<int64_t>(Get().rax);
#endif
}

int StoppedThread::NextSystemCallStop(std::chrono::milliseconds patience) {
  if (Trace(PTRACE_SYSCALL, thread_, 0, 0) != 0) Fail("PTRACE_SYSCALL");
  const int status = AwaitStop(patience);
  if (IsSystemCallStop(status)) return status;
  if (WIFSTOPPED(status) && status >> 16 == 0) kill(thread_, WSTOPSIG(status));  // give the signal back
  throw std::runtime_error("the thread stopped for another reason");
}

int StoppedThread::AwaitStop(std::chrono::milliseconds patience) {
  const auto end = std::chrono::steady_clock::now() + patience;
  bool interrupted = false;
  while (true) {
    int status = 0;
    const pid_t changed = waitpid(thread_, &status, __WALL | WNOHANG);
    if (changed < 0) Fail("waitpid");
    if (changed > 0 && !WIFSTOPPED(status)) throw std::runtime_error("the thread has ended");
    if (changed > 0) return status;
    if (std::chrono::steady_clock::now() > end) {
      if (interrupted) throw std::runtime_error("the thread does not stop");
      Trace(PTRACE_INTERRUPT, thread_, 0, 0);
      interrupted = true;
      patience = kStopPatience;
    }
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
}

// Any instruction of the kernel's own page will do. Other threads may run there too, so nothing is written to it.
uint64_t StoppedThread::FindInstruction() const {
  std::ifstream maps("/proc/" + std::to_string(thread_) + "/maps");
  for (std::string line; std::getline(maps, line);) {
    if (!line.ends_with("[vdso]")) continue;
    std::istringstream range(line);
    uint64_t begin = 0;
    uint64_t end = 0;
    char dash = 0;
    range >> std::hex >> begin >> dash >> end;
    std::vector<char> code(end - begin);
    if (pread(memory_, code.data(), code.size(), static_cast<off_t>(begin)) != static_cast<ssize_t>(code.size())) break;
    const size_t found = std::string_view(code.data(), code.size()).find(kInstruction);
    if (found != std::string_view::npos) return begin + found;
  }
  throw std::runtime_error("no system call instruction in the vDSO");
}

StoppedThread::Registers StoppedThread::Get() const {
  Registers registers{};
  iovec set{&registers, sizeof(registers)};
  if (Trace(PTRACE_GETREGSET, thread_, NT_PRSTATUS, reinterpret_cast<uintptr_t>(&set)) != 0) Fail("PTRACE_GETREGSET");
  return registers;
}

void StoppedThread::Set(const Registers& registers) const {
  Registers copy = registers;
  iovec set{&copy, sizeof(copy)};
  if (Trace(PTRACE_SETREGSET, thread_, NT_PRSTATUS, reinterpret_cast<uintptr_t>(&set)) != 0) Fail("PTRACE_SETREGSET");
}

}  // namespace cow::test
