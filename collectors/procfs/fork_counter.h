// Whether anything was forked since one looked last, for less than a microsecond: root/loadavg, whose last field is the
// pid given out last in the reader's PID namespace. Where `root` is another namespace's procfs: `processes` of
// root/stat, forks since boot, which costs more the more CPUs there are. Threads move both. Not thread-safe.
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

  // A number that is another one when something was forked since the call before.
  Result<uint64_t> Read();

 private:
  Root root_;
  std::string path_;
  bool is_loadavg_ = false;
  FileDescriptor file_;
  std::string text_;
};

// The last field of loadavg.
Result<uint64_t> ParseLastPid(std::string_view text, const std::string& path);
// `processes` of stat.
Result<uint64_t> ParseForks(std::string_view text, const std::string& path);

}  // namespace cow::procfs
