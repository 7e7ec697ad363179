#include "config/read_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <memory>
#include <system_error>

namespace cow::config {
namespace {

using File = std::unique_ptr<std::FILE, int (*)(std::FILE*)>;

tl::unexpected<std::string> Failure() { return tl::unexpected(std::generic_category().message(errno)); }

tl::unexpected<std::string> WrongKind(mode_t mode) {
  const char* kind = "a special file";
  if (S_ISDIR(mode)) kind = "a directory";
  if (S_ISFIFO(mode)) kind = "a pipe";
  if (S_ISSOCK(mode)) kind = "a socket";
  if (S_ISCHR(mode) || S_ISBLK(mode)) kind = "a device";
  return tl::unexpected(std::string("expected a regular file, got ") + kind);
}

std::string FormatLimit(size_t limit) {
  constexpr size_t kMiB = size_t{1} << 20U;
  return limit % kMiB == 0 ? std::to_string(limit / kMiB) + " MiB" : std::to_string(limit) + " bytes";
}

// Opens a regular file. Does not open other files, because to open a device can have effects.
Parsed<File> OpenRegular(const std::string& path) {
  struct stat info {};
  if (stat(path.c_str(), &info) != 0) return Failure();
  if (!S_ISREG(info.st_mode)) return WrongKind(info.st_mode);
  // Another file can have replaced it meanwhile: O_NONBLOCK keeps a pipe from blocking.
  const int descriptor = open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
  if (descriptor < 0) return Failure();
  File file(fdopen(descriptor, "r"), &std::fclose);
  if (!file) {
    close(descriptor);
    return Failure();
  }
  if (fstat(descriptor, &info) != 0) return Failure();
  if (!S_ISREG(info.st_mode)) return WrongKind(info.st_mode);
  return file;
}

}  // namespace

Parsed<std::string> ReadTextFile(const std::string& path, size_t limit) {
  const auto file = OpenRegular(path);
  if (!file) return tl::unexpected(file.error());
  std::string text(limit + 1, '\0');
  text.resize(std::fread(text.data(), 1, text.size(), file->get()));
  if (std::ferror(file->get()) != 0) return Failure();
  if (text.size() > limit) return tl::unexpected("larger than " + FormatLimit(limit));
  return text;
}

}  // namespace cow::config
