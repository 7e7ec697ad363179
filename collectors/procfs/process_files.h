// Small text files of processes (stat, statm, status) that are read again and again: their descriptors are kept, within
// a limit, and the buffers are used again.
//
// A kept descriptor shows the process that it was opened for and never another one that got its pid: when that has
// ended, reading fails with ESRCH (tried on Linux 6.18 with a pid given out again). Reading by it costs a third to a
// half of open, read and close. The kernel holds 4.3 KiB for each, most of it the text it wrote last.
//
// Nothing allocates but the first readings and the errors. Not thread-safe.
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

  // The whole text of a file of `task`, valid until the next call. By `kept` where that is open; else the file is
  // opened, and stays open in `kept` if the limit then still leaves room for `spare` others. `kept` must be of this
  // task and file, or empty. kGone: the process has ended, or its memory where the file tells of that.
  Result<std::string_view> Read(TaskId task, std::string_view file, FileDescriptor& kept, size_t spare = 0);

  // Of the last Read: for errors.
  const std::string& path() const { return path_; }

  void Close(FileDescriptor& kept);
  // Descriptors that are open now, and how many may be.
  size_t kept() const { return kept_; }
  size_t max_kept() const { return max_kept_; }

 private:
  void SetPath(TaskId task, std::string_view file);
  Result<std::string_view> ReadText(const FileDescriptor& descriptor);

  Root root_;
  size_t max_kept_;
  size_t kept_ = 0;
  std::string path_;
  std::string text_;
};

}  // namespace cow::procfs
