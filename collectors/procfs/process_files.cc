#include "collectors/procfs/process_files.h"

#include <array>
#include <charconv>

namespace cow::procfs {
namespace {

void AppendNumber(pid_t number, std::string& path) {
  std::array<char, 16> digits{};
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), number).ptr;
  path.append(digits.data(), end);
}

}  // namespace

Result<std::string_view> ProcessFiles::Read(TaskId task, std::string_view file, FileDescriptor& kept, size_t spare) {
  SetPath(task, file);
  if (kept.valid()) {
    auto text = ReadAtOnce(kept, root_.interposer(), path_, text_);
    const bool ended = text ? text->empty() : text.error().kind == ErrorKind::kGone;
    if (!ended) return text;
    Close(kept);  // another process may have the pid now
  }
  auto opened = OpenReadOnly(root_, path_);
  if (!opened) return tl::unexpected(opened.error());
  auto text = ReadAtOnce(*opened, root_.interposer(), path_, text_);
  if (text && kept_ + spare < max_kept_) {
    kept = std::move(*opened);
    ++kept_;
  }
  return text;
}

void ProcessFiles::Close(FileDescriptor& kept) {
  if (!kept.valid()) return;
  kept = FileDescriptor();
  --kept_;
}

void ProcessFiles::SetPath(TaskId task, std::string_view file) {
  path_.assign(root_.procfs());
  path_ += '/';
  AppendNumber(task.pid, path_);
  if (task.thread != 0) {
    path_ += "/task/";
    AppendNumber(task.thread, path_);
  }
  path_ += '/';
  path_ += file;
}

}  // namespace cow::procfs
