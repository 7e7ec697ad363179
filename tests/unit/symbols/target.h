// Runs a program of target/program.cc, or a copy of one, and knows its addresses. Use from one thread.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "collectors/procfs/file_descriptor.h"

namespace cow::test {

// The path of the program that was linked in this way: "pie", "fixed", "static", "stripped" or "split".
std::string TargetPath(const std::string& kind);
std::string TargetLibrary();

// The first child process; 0 if there is none.
pid_t FirstChild(pid_t pid);

class Target {
 public:
  // `before` runs in the new process before it executes the program, for example to enter a namespace. Throws if the
  // program does not start.
  explicit Target(const std::string& path, const std::function<bool()>& before = {});
  ~Target();
  Target(const Target&) = delete;
  Target& operator=(const Target&) = delete;

  pid_t pid() const { return pid_; }
  // Throws std::out_of_range if the program printed no such name.
  uint64_t At(const std::string& name) const { return addresses_.at(name); }
  // Sends a command and waits until it is done.
  void Command(const std::string& line);

 private:
  void ReadList();

  pid_t pid_ = -1;
  procfs::FileDescriptor input_;
  procfs::FileDescriptor output_;
  std::map<std::string, uint64_t> addresses_;
};

}  // namespace cow::test
