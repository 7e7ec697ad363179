#include "collectors/procfs/ksm.h"

#include <unistd.h>

#include <cerrno>
#include <string>
#include <string_view>

#include "collectors/base/text.h"

namespace cow::procfs {
namespace {

// Returns the text of a file of the process; empty if the process lives and the kernel lacks the file.
Result<std::optional<std::string>> ReadIfThere(const Root& root, TaskId task, std::string_view file) {
  const std::string path = root.ProcPath(task, file);
  auto text = ReadTextFile(root, path);
  if (!text) {
    const bool lives = access(root.ProcPath(task, "").c_str(), F_OK) == 0;
    if (text.error().error_number == ENOENT && lives) return std::nullopt;
    return tl::unexpected(text.error());
  }
  // The kernel writes nothing for a zombie or a kernel thread.
  if (text->empty()) return tl::unexpected(Error{ErrorKind::kGone, path, 0, "empty: no address space"});
  return std::move(*text);
}

Result<std::optional<uint64_t>> ReadMergingPages(const Root& root, TaskId task) {
  const auto text = ReadIfThere(root, task, "ksm_merging_pages");
  if (!text) return tl::unexpected(text.error());
  if (!*text) return std::nullopt;
  return text::NumberField<uint64_t>(root.ProcPath(task, "ksm_merging_pages"), "pages", text::FirstLine(**text));
}

}  // namespace

Result<uint64_t> ReadKsmMergingPages(const Root& root, TaskId task) {
  return ReadMergingPages(root, task).map([](const std::optional<uint64_t>& pages) { return pages.value_or(0); });
}

Result<KsmStat> ReadKsmStat(const Root& root, TaskId task) {
  const auto text = ReadIfThere(root, task, "ksm_stat");
  if (!text) return tl::unexpected(text.error());
  KsmStat stat;
  const std::string path = root.ProcPath(task, "ksm_stat");
  std::string_view rest = *text ? std::string_view(**text) : std::string_view();
  std::string_view line;
  text::NumberFields fields(path);
  while (text::NextLine(rest, line)) {
    const std::string_view key = text::NextField(line);
    const std::string_view value = text::Trim(line);
    if (key == "ksm_merging_pages") fields.Get(key, value, stat.merging_pages.emplace());
    if (key == "ksm_zero_pages") fields.Get(key, value, stat.zero_pages.emplace());
    if (key == "ksm_rmap_items") fields.Get(key, value, stat.rmap_items.emplace());
    if (key == "ksm_process_profit") fields.Get(key, value, stat.profit_bytes.emplace());
  }
  if (fields.error()) return tl::unexpected(*fields.error());
  if (!stat.merging_pages) {
    const auto pages = ReadMergingPages(root, task);
    if (!pages) return tl::unexpected(pages.error());
    stat.merging_pages = *pages;
  }
  return stat;
}

bool KsmHasMerged(const Root& root) {
  const auto text = ReadTextFile(root, root.SysPath("kernel/mm/ksm/pages_shared"));
  return text && text::FirstLine(*text) != "0";
}

}  // namespace cow::procfs
