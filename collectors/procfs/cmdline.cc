#include "collectors/procfs/cmdline.h"

#include <algorithm>

namespace cow::procfs {

Result<std::string> ReadCommandLine(const Root& root, TaskId task) {
  auto text = ReadTextFile(root, root.ProcPath(task, "cmdline"));
  if (!text) return text;
  text->resize(std::min(text->size(), kMaxCommandLineBytes));
  // One NUL ends the last argument, more of them are what a shorter title left.
  while (text->ends_with('\0')) text->pop_back();
  std::replace(text->begin(), text->end(), '\0', ' ');
  return text;
}

}  // namespace cow::procfs
