// Stops a thread of another process with ptrace, makes one system call inside of it, and lets it go on as if nothing
// had happened. Needs the right to trace the process. x86-64 and arm64. Use it from one thread.
#pragma once

#include <sys/types.h>
#include <sys/user.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <span>
#include <string>

#ifdef __aarch64__
#include <asm/ptrace.h>
#endif

namespace cow::test {

class StoppedThread {
 public:
#ifdef __aarch64__
  using Registers = user_pt_regs;
#else
  using Registers = user_regs_struct;
#endif
  static constexpr size_t kScratchBytes = 4096;

  // Throws std::runtime_error if the thread can't be stopped.
  explicit StoppedThread(pid_t thread);
  StoppedThread(const StoppedThread&) = delete;
  StoppedThread& operator=(const StoppedThread&) = delete;
  // Restores the registers and the scratch memory, and detaches.
  ~StoppedThread();

  // The address of kScratchBytes of the thread's stack that it does not use now.
  uint64_t scratch() const { return scratch_; }
  void WriteScratch(const std::string& bytes);

  // Returns what the kernel returns: a negative error number if it refuses. Throws std::runtime_error if a signal
  // comes in between or the thread ends. A call that takes longer than `patience` is interrupted.
  int64_t Call(int64_t number, std::span<const uint64_t> arguments, std::chrono::milliseconds patience);

 private:
  // Returns the status of the next stop.
  int AwaitStop(std::chrono::milliseconds patience);
  int NextSystemCallStop(std::chrono::milliseconds patience);
  uint64_t FindInstruction() const;
  Registers Get() const;
  void Set(const Registers& registers) const;
  void PrepareRestart();

  pid_t thread_;
  int memory_ = -1;
  Registers saved_{};
  uint64_t scratch_ = 0;
  std::array<char, kScratchBytes> saved_scratch_{};
};

}  // namespace cow::test
