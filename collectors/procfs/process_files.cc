#include "collectors/procfs/process_files.h"

#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>

namespace cow::procfs {
namespace {

constexpr size_t kFirstTextBytes = 4096;
constexpr size_t kMaxFileBytes = size_t{1} << 20;  // the kernel writes a few hundred bytes into these files

void AppendNumber(pid_t number, std::string& path) {
  std::array<char, 16> digits{};
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), number).ptr;
  path.append(digits.data(), end);
}

}  // namespace

Result<std::string_view> ProcessFiles::Read(TaskId task, std::string_view file, FileDescriptor& kept, size_t spare) {
  SetPath(task, file);
  if (kept.valid()) {
    auto text = ReadText(kept);
    const bool ended = text ? text->empty() : text.error().kind == ErrorKind::kGone;
    if (!ended) return text;
    Close(kept);  // another process may have the pid now
  }
  auto opened = OpenReadOnly(root_, path_);
  if (!opened) return tl::unexpected(opened.error());
  auto text = ReadText(*opened);
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

// Reads with one call, so that the whole text is of one moment. Repeats the read in a larger buffer if it did not fit.
Result<std::string_view> ProcessFiles::ReadText(const FileDescriptor& descriptor) {
  if (text_.empty()) text_.resize(kFirstTextBytes);
  for (;;) {
    if (auto error = Intercept(root_.interposer(), Access::kRead, path_)) return tl::unexpected(std::move(*error));
    const ssize_t bytes = pread(descriptor.get(), text_.data(), text_.size(), 0);
    if (bytes < 0) {
      if (errno == EINTR) continue;
      return tl::unexpected(Error::FromErrno(path_, errno));
    }
    const auto used = static_cast<size_t>(bytes);
    if (used < text_.size()) return std::string_view(text_).substr(0, used);
    if (text_.size() >= kMaxFileBytes) {
      return tl::unexpected(Error::TooLarge(path_, "more than " + std::to_string(kMaxFileBytes) + " bytes"));
    }
    text_.resize(text_.size() * 2);
  }
}

}  // namespace cow::procfs
