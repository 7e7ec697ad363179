// Rereads small text files of processes (/proc/PID/stat, statm, status) through descriptors that stay open, up to a
// limit, and reuses its buffers.
//
// An open descriptor always shows the process it was opened for, even if another process gets the pid: once the process
// has ended, reading fails with ESRCH (verified on Linux 6.18 with a reused pid). Such a read costs a third to a half
// of open, read and close. The kernel holds 4.3 KiB per descriptor, mostly the text it wrote last.
//
// Allocates only for the first reads and for errors. Not thread-safe.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

#include "collectors/base/result.h"
#include "collectors/procfs/file_descriptor.h"
#include "collectors/procfs/root.h"

namespace cow::procfs {

class ProcessFiles {
 public:
  ProcessFiles(Root root, size_t max_kept) : root_(std::move(root)), max_kept_(max_kept) {}

  // Returns the whole text of a file of `task`, valid until the next call. Reads through `kept` if it is open.
  // Otherwise opens the file, and keeps it open in `kept` if the limit still leaves room for `spare` more descriptors.
  // `kept` must belong to this task and file, or be empty. kGone: the process has ended, or its memory if the file
  // describes memory.
  Result<std::string_view> Read(TaskId task, std::string_view file, FileDescriptor& kept, size_t spare = 0);

  // The path of the last Read, for errors.
  const std::string& path() const { return path_; }

  void Close(FileDescriptor& kept);
  // The number of open descriptors, and its limit.
  size_t kept() const { return kept_; }
  size_t max_kept() const { return max_kept_; }

 private:
  void SetPath(TaskId task, std::string_view file);

  Root root_;
  size_t max_kept_;
  size_t kept_ = 0;
  std::string path_;
  std::string text_ = std::string(4096, '\0');
};

}  // namespace cow::procfs
