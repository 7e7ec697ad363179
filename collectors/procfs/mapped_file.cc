#include "collectors/procfs/mapped_file.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <utility>

#include "collectors/base/text.h"

namespace cow::procfs {
namespace {

// A fifo does not block with O_NONBLOCK, and no terminal becomes ours with O_NOCTTY.
constexpr int kHarmless = O_NONBLOCK | O_NOCTTY;

Result<FileIdentity> IdentityOf(const struct stat& status, const std::string& path) {
  if (!S_ISREG(status.st_mode)) return tl::unexpected(Error::Malformed(path, "not a regular file"));
  constexpr int64_t kNanosecondsPerSecond = 1'000'000'000;
  return FileIdentity{status.st_dev, status.st_ino, static_cast<uint64_t>(status.st_size),
                      status.st_ctim.tv_sec * kNanosecondsPerSecond + status.st_ctim.tv_nsec, status.st_uid};
}

Result<RegularFile> Checked(Result<FileDescriptor> file, const std::string& path) {
  if (!file) return tl::unexpected(file.error());
  const auto identity = Identify(*file, path);
  if (!identity) return tl::unexpected(identity.error());
  return RegularFile{std::move(*file), *identity};
}

// A symbolic link of procfs leads to the file itself, not to a path. Looks before it opens, because opening a device
// can have effects.
Result<RegularFile> OpenKernelLink(const Root& root, const std::string& path) {
  if (auto error = Intercept(root.interposer(), Access::kOpen, path)) return tl::unexpected(std::move(*error));
  struct stat status {};
  if (stat(path.c_str(), &status) != 0) return tl::unexpected(Error::FromErrno(path, errno));
  const auto identity = IdentityOf(status, path);
  if (!identity) return tl::unexpected(identity.error());
  return Checked(OpenReadOnly(root, path, kHarmless), path);
}

Result<FileDescriptor> OpenAt(const FileDescriptor& directory, const std::string& name, int flags,
                              const std::string& path) {
  int fd = -1;
  do {
    fd = openat(directory.get(), name.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | flags);
  } while (fd < 0 && errno == EINTR);
  if (fd < 0) return tl::unexpected(Error::FromErrno(path, errno));
  return FileDescriptor(fd);
}

}  // namespace

Result<FileIdentity> Identify(const FileDescriptor& file, const std::string& path) {
  struct stat status {};
  if (fstat(file.get(), &status) != 0) return tl::unexpected(Error::FromErrno(path, errno));
  return IdentityOf(status, path);
}

Result<RegularFile> OpenMappedFile(const Root& root, pid_t pid, uint64_t start, uint64_t end) {
  std::array<char, 48> name{};
  std::snprintf(name.data(), name.size(), "map_files/%" PRIx64 "-%" PRIx64, start, end);
  return OpenKernelLink(root, root.ProcPath(pid, name.data()));
}

Result<RegularFile> OpenProgram(const Root& root, pid_t pid) { return OpenKernelLink(root, root.ProcPath(pid, "exe")); }

Result<RegularFile> OpenBelowRoot(const Root& root, pid_t pid, std::string_view path) {
  const std::string whole = root.ProcPath(pid, "root") + std::string(path);
  if (path.empty() || path.front() != '/') return tl::unexpected(Error::Malformed(whole, "not an absolute path"));
  auto directory = OpenReadOnly(root, root.ProcPath(pid, "root"), O_PATH | O_DIRECTORY);
  if (!directory) return tl::unexpected(directory.error());
  std::string_view rest = path;
  while (!rest.empty()) {
    const std::string name(text::CutAt(rest, '/'));
    if (name.empty() || name == ".") continue;
    if (name == "..") return tl::unexpected(Error::Malformed(whole, "has .."));
    if (rest.empty()) {
      // A descriptor of a path alone opens nothing, so a look at it has no effect.
      auto seen = OpenAt(*directory, name, O_PATH, whole);
      const auto regular = Checked(std::move(seen), whole);
      if (!regular) return tl::unexpected(regular.error());
      return Checked(OpenAt(*directory, name, kHarmless, whole), whole);
    }
    auto next = OpenAt(*directory, name, O_PATH | O_DIRECTORY, whole);
    if (!next) return tl::unexpected(next.error());
    directory = std::move(next);
  }
  return tl::unexpected(Error::Malformed(whole, "not a regular file"));
}

Result<RegularFile> OpenRegular(const Root& root, const std::string& path) {
  return Checked(OpenReadOnly(root, path, kHarmless), path);
}

}  // namespace cow::procfs
