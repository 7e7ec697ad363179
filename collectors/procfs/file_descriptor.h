// An owned, move-only file descriptor. Not thread-safe.
#pragma once

#include <string>
#include <utility>

#include "collectors/base/result.h"
#include "collectors/procfs/root.h"

namespace cow::procfs {

class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept;
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  ~FileDescriptor();

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

// Opens a file below `root` with O_RDONLY, O_CLOEXEC and `flags`.
Result<FileDescriptor> OpenReadOnly(const Root& root, const std::string& path, int flags = 0);

}  // namespace cow::procfs
