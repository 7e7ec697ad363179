#include "collectors/procfs/file_descriptor.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

namespace cow::procfs {

FileDescriptor& FileDescriptor::operator=(FileDescriptor&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

FileDescriptor::~FileDescriptor() {
  // Never retry: Linux releases the descriptor even if close reports EINTR.
  if (fd_ >= 0) close(fd_);
}

Result<FileDescriptor> OpenReadOnly(const Root& root, const std::string& path, int flags) {
  if (auto error = Intercept(root.interposer(), Access::kOpen, path)) return tl::unexpected(std::move(*error));
  int fd = -1;
  do {
    fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | flags);
  } while (fd < 0 && errno == EINTR);
  if (fd < 0) return tl::unexpected(Error::FromErrno(path, errno));
  return FileDescriptor(fd);
}

}  // namespace cow::procfs
