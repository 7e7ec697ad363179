#include "collectors/procfs/ksm.h"

#include <unistd.h>

#include <cerrno>
#include <string>
#include <string_view>

#include "collectors/procfs/text.h"

namespace cow::procfs {

Result<uint64_t> ReadKsmMergingPages(const Root& root, pid_t pid) {
  const std::string path = root.ProcPath(pid, "ksm_merging_pages");
  const auto text = ReadTextFile(path);
  if (!text) {
    const bool lives = access(root.ProcPath(pid, "").c_str(), F_OK) == 0;
    if (text.error().error_number == ENOENT && lives) return 0;
    return tl::unexpected(text.error());
  }
  // The kernel writes nothing for a zombie or a kernel thread.
  if (text->empty()) return tl::unexpected(Error{ErrorKind::kGone, path, 0, "empty: no address space"});
  std::string_view rest = *text;
  std::string_view line;
  text::NextLine(rest, line);
  return text::NumberField<uint64_t>(path, "pages", text::Trim(line));
}

bool KsmHasMerged(const Root& root) {
  const auto text = ReadTextFile(root.SysPath("kernel/mm/ksm/pages_shared"));
  return text && text::Trim(*text) != "0";
}

}  // namespace cow::procfs
