#include "collectors/procfs/cmdline.h"

#include <algorithm>
#include <span>

#include "collectors/procfs/file_descriptor.h"

namespace cow::procfs {

Result<std::string> ReadCommandLine(const Root& root, TaskId task) {
  const std::string path = root.ProcPath(task, "cmdline");
  const auto file = OpenReadOnly(root, path);
  if (!file) return tl::unexpected(file.error());
  std::string text(kMaxCommandLineBytes, '\0');
  const auto bytes = ReadSome(*file, root.interposer(), path, std::as_writable_bytes(std::span(text)));
  if (!bytes) return tl::unexpected(bytes.error());
  text.resize(*bytes);
  // One NUL ends the last argument. A process that wrote a shorter title leaves more of them.
  text.erase(text.find_last_not_of('\0') + 1);
  std::replace(text.begin(), text.end(), '\0', ' ');
  return text;
}

}  // namespace cow::procfs
