#include "collectors/procfs/root.h"

#include <unistd.h>

#include <cerrno>
#include <span>
#include <utility>

#include "collectors/procfs/file_descriptor.h"

namespace cow::procfs {
namespace {

constexpr size_t kFirstReadBytes = 4096;
constexpr size_t kLinkBytes = 256;
constexpr size_t kMaxLinkBytes = 65536;  // the kernel returns one page at most

std::string WithoutTrailingSlashes(std::string path) {
  path.erase(path.find_last_not_of('/') + 1);
  return path;
}

std::string Join(const std::string& directory, std::string_view file) {
  std::string path;
  path.reserve(directory.size() + 1 + file.size());
  path += directory;
  path += '/';
  path += file;
  return path;
}

}  // namespace

Root::Root(std::string procfs, std::string sysfs, std::shared_ptr<Interposer> interposer)
    : procfs_(WithoutTrailingSlashes(std::move(procfs))),
      sysfs_(WithoutTrailingSlashes(std::move(sysfs))),
      interposer_(std::move(interposer)) {}

std::string Root::ProcPath(std::string_view file) const { return Join(procfs_, file); }

std::string Root::ProcPath(TaskId task, std::string_view file) const {
  std::string directory = Join(procfs_, std::to_string(task.pid));
  if (task.thread != 0) directory = Join(Join(directory, "task"), std::to_string(task.thread));
  return Join(directory, file);
}

std::string Root::SysPath(std::string_view file) const { return Join(sysfs_, file); }

Result<std::string> ReadTextFile(const Root& root, const std::string& path, size_t max_bytes) {
  const auto file = OpenReadOnly(root, path);
  if (!file) return tl::unexpected(file.error());
  std::string text(kFirstReadBytes, '\0');
  for (size_t used = 0;;) {
    const auto bytes = ReadSome(*file, root.interposer(), path, std::as_writable_bytes(std::span(text)).subspan(used));
    if (!bytes) return tl::unexpected(bytes.error());
    if (*bytes > max_bytes - used) {
      return tl::unexpected(Error::TooLarge(path, "more than " + std::to_string(max_bytes) + " bytes"));
    }
    used += *bytes;
    if (*bytes == 0) {
      text.resize(used);
      return text;
    }
    if (text.size() - used < kFirstReadBytes / 2) text.resize(text.size() * 2);
  }
}

Result<std::string> ReadLink(const Root& root, const std::string& path) {
  if (auto error = Intercept(root.interposer(), Access::kLink, path)) return tl::unexpected(std::move(*error));
  std::string target(kLinkBytes, '\0');
  for (;;) {
    const ssize_t bytes = readlink(path.c_str(), target.data(), target.size());
    if (bytes < 0) {
      if (errno == EINTR) continue;
      return tl::unexpected(Error::FromErrno(path, errno));
    }
    if (static_cast<size_t>(bytes) < target.size()) {
      target.resize(static_cast<size_t>(bytes));
      return target;
    }
    if (target.size() >= kMaxLinkBytes) {
      return tl::unexpected(Error::TooLarge(path, "link target of " + std::to_string(bytes) + " bytes or more"));
    }
    target.resize(target.size() * 2);  // the target may be truncated
  }
}

Result<void> RequireOwnPids(const Root& root) {
  const std::string path = root.ProcPath("self");
  const auto self = ReadLink(root, path);
  if (!self) return tl::unexpected(self.error());
  if (*self == std::to_string(getpid())) return {};
  return tl::unexpected(Error{ErrorKind::kIo, path, 0, "not this process: the pids are of another PID namespace"});
}

}  // namespace cow::procfs
