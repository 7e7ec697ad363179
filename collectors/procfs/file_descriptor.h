// An owned, move-only file descriptor, and the reads of the kernel's files through it. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "collectors/base/result.h"
#include "collectors/procfs/root.h"

namespace cow::procfs {

class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  ~FileDescriptor();

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  // Gives up the ownership.
  int Release() { return std::exchange(fd_, -1); }

 private:
  int fd_ = -1;
};

// Opens a file below `root` with O_RDONLY, O_CLOEXEC and `flags`.
Result<FileDescriptor> OpenReadOnly(const Root& root, const std::string& path, int flags = 0);

// Makes one read at `offset`; without one, at the file's position. Asks the interposer before it, and retries after
// EINTR. Returns the number of bytes, 0 at the end. Uses `path` only in errors.
Result<size_t> ReadSome(const FileDescriptor& file, const std::shared_ptr<Interposer>& interposer,
                        const std::string& path, std::span<std::byte> buffer, std::optional<uint64_t> offset = {});

// Reads the whole text with one read, so that all of it is of one moment. Repeats the read with twice the buffer if it
// did not fit; kTooLarge: more than 1 MiB. The text is in `buffer`, which must not be empty.
Result<std::string_view> ReadAtOnce(const FileDescriptor& file, const std::shared_ptr<Interposer>& interposer,
                                    const std::string& path, std::string& buffer);

// An open file, with what its reads need.
struct KernelFile {
  static Result<KernelFile> Open(const Root& root, std::string path);
  Result<size_t> Read(std::span<std::byte> buffer, std::optional<uint64_t> offset = {}) const {
    return ReadSome(descriptor, interposer, path, buffer, offset);
  }

  FileDescriptor descriptor;
  std::string path;
  std::shared_ptr<Interposer> interposer;
};

}  // namespace cow::procfs
