#include "collectors/procfs/mountinfo.h"

#include <cstddef>

#include "collectors/base/text.h"

namespace cow::procfs {
namespace {

// Room for four paths with every byte escaped.
constexpr size_t kMaxLineBytes = size_t{4} * 4 * 4096;
constexpr uint64_t kMaxMountinfoBytes = uint64_t{16} << 20;

// The kernel escapes blank, tab, newline, backslash and '#' as \ooo.
std::string UnescapePath(std::string_view escaped) {
  std::string plain;
  for (size_t i = 0; i < escaped.size(); ++i) {
    const std::string_view digits = escaped.substr(i).substr(1, 3);
    if (escaped[i] == '\\' && digits.size() == 3) {
      if (const auto byte = text::ParseNumber<uint8_t>(digits, 8)) {
        plain += static_cast<char>(*byte);
        i += digits.size();
        continue;
      }
    }
    plain += escaped[i];
  }
  return plain;
}

// Parses "36 35 98:0 /root /mount/point rw,noatime master:1 - ext4 /dev/sda1 rw,errors=continue". Any number of
// optional fields precedes the " - ".
Result<Mount> ParseLine(std::string_view line, const std::string& path) {
  const size_t separator = line.find(" - ");
  if (separator == std::string_view::npos) {
    return tl::unexpected(Error::Malformed(path, "no \" - \" in " + text::Quote(line)));
  }
  std::string_view head = line.substr(0, separator);
  std::string_view tail = line.substr(separator + 3);

  Mount mount;
  text::NextField(head);  // mount id
  text::NextField(head);  // parent mount id
  std::string_view minor_text = text::NextField(head);
  const std::string_view major_text = text::CutAt(minor_text, ':');
  text::NumberFields fields(path);
  fields.Get("device major", major_text, mount.device_major);
  fields.Get("device minor", minor_text, mount.device_minor);
  if (fields.error()) return tl::unexpected(*fields.error());
  text::NextField(head);  // root of the mount within the filesystem
  mount.mount_point = UnescapePath(text::NextField(head));
  mount.mount_options = text::NextField(head);
  // Single blanks separate these fields, and the source may be empty.
  mount.filesystem_type = text::CutAt(tail, ' ');
  text::CutAt(tail, ' ');
  mount.super_options = tail;
  if (mount.mount_point.empty()) return tl::unexpected(text::MissingField(path, "mount point"));
  if (mount.mount_options.empty()) return tl::unexpected(text::MissingField(path, "mount options"));
  if (mount.filesystem_type.empty()) return tl::unexpected(text::MissingField(path, "filesystem type"));
  return mount;
}

}  // namespace

Result<MountinfoReader> MountinfoReader::OpenPath(const Root& root, std::string path) {
  return LineReader::Open(root, std::move(path), {kMaxMountinfoBytes, kMaxLineBytes}).map([](LineReader&& lines) {
    return MountinfoReader(std::move(lines));
  });
}

Result<MountinfoReader> MountinfoReader::Open(const Root& root, TaskId task) {
  return OpenPath(root, root.ProcPath(task, "mountinfo"));
}

Result<MountinfoReader> MountinfoReader::OpenSelf(const Root& root) {
  return OpenPath(root, root.ProcPath("self/mountinfo"));
}

Result<const Mount*> MountinfoReader::Next() {
  for (;;) {
    const auto line = lines_.Next();
    if (!line) return tl::unexpected(line.error());
    if (!*line) return nullptr;
    if ((*line)->size() == kMaxLineBytes) continue;  // truncated
    auto mount = ParseLine(**line, lines_.path());
    if (!mount) return tl::unexpected(mount.error());
    mount_ = std::move(*mount);
    return &mount_;
  }
}

}  // namespace cow::procfs
