#include "collectors/procfs/statm.h"

#include <string>

#include "collectors/base/text.h"

namespace cow::procfs {

Result<Statm> ReadStatm(const Root& root, pid_t pid) {
  const std::string path = root.ProcPath(pid, "statm");
  const auto text = ReadTextFile(root, path);
  if (!text) return tl::unexpected(text.error());
  return ParseStatm(*text, path);
}

Result<Statm> ParseStatm(std::string_view text, const std::string& path) {
  std::string_view line;
  text::NextLine(text, line);
  const auto size = text::NumberField<uint64_t>(path, "size", text::NextField(line));
  if (!size) return tl::unexpected(size.error());
  const auto resident = text::NumberField<uint64_t>(path, "resident", text::NextField(line));
  if (!resident) return tl::unexpected(resident.error());
  const auto shared = text::NumberField<uint64_t>(path, "shared", text::NextField(line));
  if (!shared) return tl::unexpected(shared.error());
  return Statm{*size, *resident, *shared};
}

}  // namespace cow::procfs
