// Tells whether anything was forked since the last call.
//
// Reads the last field of root/loadavg, the last pid assigned in the reader's PID namespace, in under a microsecond. If
// `root` is the procfs of another namespace, reads `processes` of root/stat instead, the forks since boot; its cost
// grows with the number of CPUs. New threads change both numbers. Not thread-safe.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "collectors/base/result.h"
#include "collectors/procfs/file_descriptor.h"
#include "collectors/procfs/root.h"

namespace cow::procfs {

class ForkCounter {
 public:
  explicit ForkCounter(const Root& root);

  // Returns a number that differs from the previous call's if something was forked in between.
  Result<uint64_t> Read();

 private:
  Root root_;
  std::string path_;
  bool is_loadavg_ = false;
  FileDescriptor file_;
  std::string text_;
};

// Returns the last field of loadavg.
Result<uint64_t> ParseLastPid(std::string_view text, const std::string& path);
// Returns `processes` of stat.
Result<uint64_t> ParseForks(std::string_view text, const std::string& path);

}  // namespace cow::procfs
