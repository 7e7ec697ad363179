// Drives cow_workload, the program that creates known page-table situations (its commands are described at the head of
// workload/cow_workload.cc). One object is one root process with all its descendants; used by one thread.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace cow::testing {

class Workload {
 public:
  struct Member {
    int id;
    pid_t pid;
  };
  static constexpr int kRoot = 0;

  // Starts the program. Throws std::runtime_error if that fails.
  Workload();
  // Kills the root and all its descendants, also orphaned and exec'ed ones, and returns when their memory is gone.
  ~Workload();
  Workload(const Workload&) = delete;
  Workload& operator=(const Workload&) = delete;

  // Sends one command and returns what follows "ok". Throws std::runtime_error with the reason on "error …", at the
  // program's end and after two minutes without an answer.
  std::string Do(std::string_view command);

  Member Fork(int id = kRoot);
  Member ForkDouble(int id = kRoot);
  pid_t Pid(int id = kRoot);

  // Where the mapping is in that member; Map is the command of this name.
  uintptr_t Map(int id, std::string_view name, size_t pages, std::string_view kind = "nohuge");
  uintptr_t Address(int id, std::string_view name);

 private:
  pid_t root_ = 0;
  int channel_ = -1;
  std::string received_;
};

}  // namespace cow::testing
