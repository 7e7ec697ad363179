#include "collectors/procfs/statm.h"

#include <string>

#include "collectors/base/text.h"

namespace cow::procfs {

Result<Statm> ReadStatm(const Root& root, pid_t pid) {
  const std::string path = root.ProcPath(pid, "statm");
  return ReadTextFile(root, path).and_then([&](const std::string& text) { return ParseStatm(text, path); });
}

Result<Statm> ParseStatm(std::string_view text, const std::string& path) {
  Statm statm;
  std::string_view line = text::FirstLine(text);
  text::NumberFields fields(path);
  fields.Get("size", text::NextField(line), statm.size_pages);
  fields.Get("resident", text::NextField(line), statm.resident_pages);
  fields.Get("shared", text::NextField(line), statm.shared_pages);
  if (fields.error()) return tl::unexpected(*fields.error());
  return statm;
}

}  // namespace cow::procfs
