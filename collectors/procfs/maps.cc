#include "collectors/procfs/maps.h"

#include <utility>

#include "collectors/procfs/text.h"

namespace cow::procfs {

Result<std::vector<Vma>> ReadMaps(const Root& root, TaskId task) {
  const std::string path = root.ProcPath(task, "maps");
  const auto text = ReadTextFile(path);
  if (!text) return tl::unexpected(text.error());
  return ParseMaps(*text, path);
}

Result<std::vector<Vma>> ParseMaps(std::string_view text, const std::string& path) {
  if (text.empty()) return tl::unexpected(Error{ErrorKind::kGone, path, 0, "empty: no address space"});
  std::vector<Vma> vmas;
  uint64_t previous_end = 0;
  std::string_view line;
  while (text::NextLine(text, line)) {
    auto vma = ParseMapsLine(line, path);
    if (!vma) return tl::unexpected(vma.error());
    if (vma->start >= vma->end) return tl::unexpected(text::BadField(path, "address range", line));
    if (vma->start < previous_end) return tl::unexpected(text::BadField(path, "order of addresses", line));
    previous_end = vma->end;
    vmas.push_back(std::move(*vma));
  }
  return vmas;
}

Result<Vma> ParseMapsLine(std::string_view line, const std::string& path) {
  std::string_view rest = line;
  Vma vma;

  std::string_view end_text = text::NextField(rest);
  const std::string_view start_text = text::CutAt(end_text, '-');
  const auto start = text::NumberField<uint64_t>(path, "start address", start_text, 16);
  if (!start) return tl::unexpected(start.error());
  const auto end = text::NumberField<uint64_t>(path, "end address", end_text, 16);
  if (!end) return tl::unexpected(end.error());
  if (*start > *end) return tl::unexpected(text::BadField(path, "address range", line));
  vma.start = *start;
  vma.end = *end;

  const std::string_view permissions = text::NextField(rest);
  if (permissions.empty()) return tl::unexpected(text::MissingField(path, "permissions"));
  const auto is_one_of = [permissions](size_t index, char set, char unset) {
    return permissions[index] == set || permissions[index] == unset;
  };
  if (permissions.size() != 4 || !is_one_of(0, 'r', '-') || !is_one_of(1, 'w', '-') || !is_one_of(2, 'x', '-') ||
      !is_one_of(3, 's', 'p')) {
    return tl::unexpected(text::BadField(path, "permissions", permissions));
  }
  vma.readable = permissions[0] == 'r';
  vma.writable = permissions[1] == 'w';
  vma.executable = permissions[2] == 'x';
  vma.shared = permissions[3] == 's';

  const auto offset = text::NumberField<uint64_t>(path, "offset", text::NextField(rest), 16);
  if (!offset) return tl::unexpected(offset.error());
  std::string_view minor_text = text::NextField(rest);
  const std::string_view major_text = text::CutAt(minor_text, ':');
  const auto major = text::NumberField<uint32_t>(path, "device major", major_text, 16);
  if (!major) return tl::unexpected(major.error());
  const auto minor = text::NumberField<uint32_t>(path, "device minor", minor_text, 16);
  if (!minor) return tl::unexpected(minor.error());
  const auto inode = text::NumberField<uint64_t>(path, "inode", text::NextField(rest));
  if (!inode) return tl::unexpected(inode.error());
  vma.offset_bytes = *offset;
  vma.device_major = *major;
  vma.device_minor = *minor;
  vma.inode = *inode;

  // No path begins with a blank: the kernel pads with them. At its end they are its own.
  const size_t path_start = rest.find_first_not_of(' ');
  if (path_start != std::string_view::npos) vma.path = rest.substr(path_start);
  return vma;
}

}  // namespace cow::procfs
