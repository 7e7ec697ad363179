#include "tests/support/workload.h"

#include <poll.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <stdexcept>
#include <system_error>

namespace cow::testing {
namespace {

constexpr int kAnswerMilliseconds = 120'000;
constexpr int kEndMilliseconds = 30'000;

[[noreturn]] void Throw(int error, const char* what) {
  throw std::runtime_error(std::string(what) + ": " + std::system_category().message(error));
}

template <typename Number>
Number TakeNumber(std::string_view& text, int base = 10) {
  Number number{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, base);
  if (error != std::errc()) {
    throw std::runtime_error("cow_workload: no number in answer");
  }
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  text.remove_prefix(std::min(text.size(), text.find_first_not_of(' ')));
  return number;
}

uintptr_t ParseAddress(std::string_view text) {
  if (text.substr(0, 2) != "0x") {
    throw std::runtime_error("cow_workload: no address in answer");
  }
  text.remove_prefix(2);
  return TakeNumber<uintptr_t>(text, 16);
}

Workload::Member ParseMember(const std::string& answer) {
  std::string_view text(answer);
  const int id = TakeNumber<int>(text);
  return {.id = id, .pid = TakeNumber<pid_t>(text)};
}

}  // namespace

Workload::Workload() {
  std::array<int, 2> sockets{};
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets.data()) != 0) {
    Throw(errno, "socketpair");
  }
  channel_ = sockets[0];
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, sockets[1], STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, sockets[1], STDOUT_FILENO);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  // Its own process group reaches every descendant, also reparented ones.
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
  std::array<char*, 5> arguments{const_cast<char*>("cow_workload"), const_cast<char*>("--root"),
                                 const_cast<char*>("0000"), const_cast<char*>("0000"), nullptr};
  const int error = posix_spawn(&root_, COW_WORKLOAD_PATH, &actions, &attributes, arguments.data(), environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  close(sockets[1]);
  if (error != 0) {
    close(channel_);
    Throw(error, COW_WORKLOAD_PATH);
  }
}

Workload::~Workload() {
  kill(-root_, SIGKILL);
  // All members hold the other end of the channel. A process closes its files after it has freed its memory.
  std::array<char, 256> rest;
  pollfd event{channel_, POLLIN, 0};
  while (poll(&event, 1, kEndMilliseconds) > 0 && recv(channel_, rest.data(), rest.size(), 0) > 0) {
  }
  close(channel_);
  waitpid(root_, nullptr, 0);
}

std::string Workload::Do(std::string_view command) {
  const std::string line = std::string(command) + "\n";
  if (send(channel_, line.data(), line.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(line.size())) {
    Throw(errno, "cow_workload: send");
  }
  size_t end = std::string::npos;
  while ((end = received_.find('\n')) == std::string::npos) {
    pollfd event{channel_, POLLIN, 0};
    const int ready = poll(&event, 1, kAnswerMilliseconds);
    if (ready < 0 && errno == EINTR) {
      continue;
    }
    std::array<char, 1024> bytes;
    const ssize_t length = ready > 0 ? recv(channel_, bytes.data(), bytes.size(), 0) : 0;
    if (length <= 0) {
      throw std::runtime_error("cow_workload: no answer to: " + std::string(command));
    }
    received_.append(bytes.data(), static_cast<size_t>(length));
  }
  const std::string answer = received_.substr(0, end);
  received_.erase(0, end + 1);
  if (answer.rfind("ok", 0) != 0) {
    throw std::runtime_error("cow_workload: " + std::string(command) + ": " + answer);
  }
  return answer.size() > 3 ? answer.substr(3) : std::string();
}

Workload::Member Workload::Fork(int id) { return ParseMember(Do("fork " + std::to_string(id))); }

Workload::Member Workload::ForkDouble(int id) { return ParseMember(Do("forkdouble " + std::to_string(id))); }

pid_t Workload::Pid(int id) {
  const std::string answer = Do("pid " + std::to_string(id));
  std::string_view text(answer);
  return TakeNumber<pid_t>(text);
}

uintptr_t Workload::Map(int id, std::string_view name, size_t pages, std::string_view kind) {
  return ParseAddress(Do("map " + std::to_string(id) + " " + std::string(name) + " " + std::to_string(pages) + " " +
                         std::string(kind)));
}

uintptr_t Workload::Address(int id, std::string_view name) {
  return ParseAddress(Do("addr " + std::to_string(id) + " " + std::string(name)));
}

}  // namespace cow::testing
