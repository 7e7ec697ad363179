// Drives cow_workload, a program that creates known page-table situations (workload/cow_workload.cc describes its
// commands). One object is one root process with all its descendants. Use it from one thread.
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
  // Kills the root and all its descendants, including orphaned and exec'ed ones. Returns when their memory is freed.
  ~Workload();
  Workload(const Workload&) = delete;
  Workload& operator=(const Workload&) = delete;

  // Sends one command and returns the text after "ok". Throws std::runtime_error on "error …", if the program ends, and
  // after two minutes without an answer.
  std::string Do(std::string_view command);

  Member Fork(int id = kRoot);
  Member ForkDouble(int id = kRoot);
  pid_t Pid(int id = kRoot);

  // Returns the place of the mapping in that member. Map sends the command of this name.
  uintptr_t Map(int id, std::string_view name, size_t pages, std::string_view kind = "nohuge");
  uintptr_t Address(int id, std::string_view name);

 private:
  pid_t root_ = 0;
  int channel_ = -1;
  std::string received_;
};

}  // namespace cow::testing
