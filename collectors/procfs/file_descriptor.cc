#include "collectors/procfs/file_descriptor.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

namespace cow::procfs {

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

Result<size_t> ReadSome(const FileDescriptor& file, const std::shared_ptr<Interposer>& interposer,
                        const std::string& path, std::span<std::byte> buffer, std::optional<uint64_t> offset) {
  if (auto error = Intercept(interposer, Access::kRead, path)) return tl::unexpected(std::move(*error));
  ssize_t bytes = 0;
  do {
    bytes = offset ? pread(file.get(), buffer.data(), buffer.size(), static_cast<off_t>(*offset))
                   : read(file.get(), buffer.data(), buffer.size());
  } while (bytes < 0 && errno == EINTR);
  if (bytes < 0) return tl::unexpected(Error::FromErrno(path, errno));
  return static_cast<size_t>(bytes);
}

Result<std::string_view> ReadAtOnce(const FileDescriptor& file, const std::shared_ptr<Interposer>& interposer,
                                    const std::string& path, std::string& buffer) {
  constexpr size_t kMaxBytes = size_t{1} << 20;  // the kernel writes a few hundred bytes into most of these files
  for (;;) {
    const auto bytes = ReadSome(file, interposer, path, std::as_writable_bytes(std::span(buffer)), 0);
    if (!bytes) return tl::unexpected(bytes.error());
    if (*bytes < buffer.size()) return std::string_view(buffer).substr(0, *bytes);
    if (buffer.size() >= kMaxBytes) {
      return tl::unexpected(Error::TooLarge(path, "more than " + std::to_string(kMaxBytes) + " bytes"));
    }
    buffer.resize(buffer.size() * 2);
  }
}

Result<KernelFile> KernelFile::Open(const Root& root, std::string path) {
  auto descriptor = OpenReadOnly(root, path);
  if (!descriptor) return tl::unexpected(descriptor.error());
  return KernelFile{std::move(*descriptor), std::move(path), root.interposer()};
}

}  // namespace cow::procfs
