#include "collectors/procfs/maps.h"

#include "collectors/base/text.h"

namespace cow::procfs {
namespace {

// The fields before the path, and the path.
constexpr size_t kMaxMapsLineBytes = 128 + kMaxPathBytes;

}  // namespace

Result<MapsReader> MapsReader::Open(const Root& root, TaskId task, MapsLimits limits) {
  const LineReader::Limits of_text{limits.max_bytes, kMaxMapsLineBytes};
  return LineReader::Open(root, root.ProcPath(task, "maps"), of_text).map([&limits](LineReader&& lines) {
    return MapsReader(std::move(lines), limits.max_vmas);
  });
}

Result<bool> MapsReader::Next(Vma& vma) {
  const auto line = lines_.Next();
  if (!line) return tl::unexpected(line.error());
  const std::string& path = lines_.path();
  if (!*line) {
    if (vmas_ == 0) return tl::unexpected(Error{ErrorKind::kGone, path, 0, "empty: no address space"});
    return false;
  }
  if (vmas_ == max_vmas_) {
    return tl::unexpected(Error::TooLarge(path, "more than " + std::to_string(max_vmas_) + " mappings"));
  }
  ++vmas_;
  auto parsed = ParseMapsLine(**line, path);
  if (!parsed) return tl::unexpected(parsed.error());
  if (parsed->start >= parsed->end) return tl::unexpected(text::BadField(path, "address range", **line));
  if (parsed->start < previous_end_) return tl::unexpected(text::BadField(path, "order of addresses", **line));
  previous_end_ = parsed->end;
  vma = std::move(*parsed);
  return true;
}

Result<std::vector<Vma>> ReadMaps(const Root& root, TaskId task, MapsLimits limits) {
  auto reader = MapsReader::Open(root, task, limits);
  if (!reader) return tl::unexpected(reader.error());
  std::vector<Vma> vmas;
  for (;;) {
    Vma vma;
    const auto read = reader->Next(vma);
    if (!read) return tl::unexpected(read.error());
    if (!*read) return vmas;
    vmas.push_back(std::move(vma));
  }
}

Result<Vma> ParseMapsLine(std::string_view line, const std::string& path) {
  std::string_view rest = line;
  Vma vma;

  std::string_view end_text = text::NextField(rest);
  const std::string_view start_text = text::CutAt(end_text, '-');
  text::NumberFields fields(path);
  fields.Get("start address", start_text, vma.start, 16);
  fields.Get("end address", end_text, vma.end, 16);
  if (fields.error()) return tl::unexpected(*fields.error());
  if (vma.start > vma.end) return tl::unexpected(text::BadField(path, "address range", line));

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

  fields.Get("offset", text::NextField(rest), vma.offset_bytes, 16);
  std::string_view minor_text = text::NextField(rest);
  const std::string_view major_text = text::CutAt(minor_text, ':');
  fields.Get("device major", major_text, vma.device_major, 16);
  fields.Get("device minor", minor_text, vma.device_minor, 16);
  fields.Get("inode", text::NextField(rest), vma.inode);
  if (fields.error()) return tl::unexpected(*fields.error());

  // The kernel pads with blanks before the path, and no path begins with one. Blanks at the end belong to the path.
  const size_t path_start = rest.find_first_not_of(' ');
  if (path_start != std::string_view::npos) vma.path = rest.substr(path_start, kMaxPathBytes);
  return vma;
}

}  // namespace cow::procfs
