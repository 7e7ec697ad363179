// A forked child that runs a function in step with the test. The destructor kills and reaps it.
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <functional>
#include <system_error>
#include <utility>

namespace cow::test {

class ChildProcess {
 public:
  // The child's side. Both return false once the parent is gone.
  class Steps {
   public:
    Steps(int read_fd, int write_fd) : read_fd_(read_fd), write_fd_(write_fd) {}
    bool Report() const { return SendByte(write_fd_); }  // wakes one AwaitReport
    bool AwaitGo() const { return ReceiveByte(read_fd_, -1); }

   private:
    int read_fd_;
    int write_fd_;
  };

  // The exit status is the value of `body`. `body` must not use assertions: the test would not see them.
  explicit ChildProcess(const std::function<int(const Steps&)>& body) {
    std::array<int, 2> to_child{};
    std::array<int, 2> to_parent{};
    if (pipe2(to_child.data(), O_CLOEXEC) != 0 || pipe2(to_parent.data(), O_CLOEXEC) != 0) Throw("pipe2");
    pid_ = fork();
    if (pid_ < 0) Throw("fork");
    if (pid_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      close(to_child[1]);
      close(to_parent[0]);
      _exit(body(Steps(to_child[0], to_parent[1])));
    }
    close(to_child[0]);
    close(to_parent[1]);
    read_fd_ = to_parent[0];
    write_fd_ = to_child[1];
  }
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;
  ~ChildProcess() {
    if (!reaped_) {
      kill(pid_, SIGKILL);
      Reap();
    }
    close(read_fd_);
    close(write_fd_);
  }

  pid_t pid() const { return pid_; }

  bool AwaitReport() const { return ReceiveByte(read_fd_, kTimeoutMilliseconds); }
  // Waits until the child has executed a program or ended: its end of the pipe closes.
  bool AwaitClose() const {
    pollfd poll_fd{read_fd_, POLLIN, 0};
    char byte = 0;
    return poll(&poll_fd, 1, kTimeoutMilliseconds) == 1 && read(read_fd_, &byte, 1) == 0;
  }
  bool Go() const { return SendByte(write_fd_); }

  // Waits until the child has ended, and leaves it a zombie.
  bool AwaitZombie() const {
    siginfo_t info{};
    return waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOWAIT) == 0;
  }
  void Kill() const { kill(pid_, SIGKILL); }

  // Waits until the child has ended. Returns its exit status, or -1 if a signal ended it.
  int Reap() {
    int status = 0;
    while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    reaped_ = true;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

 private:
  static constexpr int kTimeoutMilliseconds = 20000;

  [[noreturn]] static void Throw(const char* what) { throw std::system_error(errno, std::generic_category(), what); }

  static bool SendByte(int fd) {
    const char byte = 1;
    return write(fd, &byte, 1) == 1;
  }
  static bool ReceiveByte(int fd, int timeout_milliseconds) {
    pollfd poll_fd{fd, POLLIN, 0};
    char byte = 0;
    return poll(&poll_fd, 1, timeout_milliseconds) == 1 && read(fd, &byte, 1) == 1;
  }

  pid_t pid_ = -1;
  int read_fd_ = -1;
  int write_fd_ = -1;
  bool reaped_ = false;
};

// A body that reports once that it runs, then waits until it may continue.
inline int Sleep(const ChildProcess::Steps& steps) {
  steps.Report();
  steps.AwaitGo();
  return 0;
}

}  // namespace cow::test
