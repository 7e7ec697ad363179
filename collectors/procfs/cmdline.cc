#include "collectors/procfs/cmdline.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "collectors/procfs/file_descriptor.h"

namespace cow::procfs {

Result<std::string> ReadCommandLine(const Root& root, TaskId task) {
  const std::string path = root.ProcPath(task, "cmdline");
  const auto descriptor = OpenReadOnly(root, path);
  if (!descriptor) return tl::unexpected(descriptor.error());
  if (auto error = Intercept(root.interposer(), Access::kRead, path)) return tl::unexpected(std::move(*error));
  std::string text(kMaxCommandLineBytes, '\0');
  ssize_t bytes = 0;
  do {
    bytes = pread(descriptor->get(), text.data(), text.size(), 0);
  } while (bytes < 0 && errno == EINTR);
  if (bytes < 0) return tl::unexpected(Error::FromErrno(path, errno));
  text.resize(static_cast<size_t>(bytes));
  // One NUL ends the last argument. A process that wrote a shorter title leaves more of them.
  text.erase(text.find_last_not_of('\0') + 1);
  std::replace(text.begin(), text.end(), '\0', ' ');
  return text;
}

}  // namespace cow::procfs
