#include "collectors/procfs/line_reader.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace cow::procfs {

LineReader::LineReader(FileDescriptor descriptor, std::string path, Limits limits,
                       std::shared_ptr<Interposer> interposer)
    : descriptor_(std::move(descriptor)),
      path_(std::move(path)),
      limits_(limits),
      interposer_(std::move(interposer)),
      buffer_(std::make_unique<std::array<char, kBufferBytes>>()) {}

Result<LineReader> LineReader::Open(const Root& root, std::string path, Limits limits) {
  auto descriptor = OpenReadOnly(root, path);
  if (!descriptor) return tl::unexpected(descriptor.error());
  return LineReader(std::move(*descriptor), std::move(path), limits, root.interposer());
}

Result<bool> LineReader::Fill() {
  for (;;) {
    if (auto error = Intercept(interposer_, Access::kRead, path_)) return tl::unexpected(std::move(*error));
    const ssize_t bytes = read(descriptor_.get(), buffer_->data(), buffer_->size());
    if (bytes < 0 && errno == EINTR) continue;
    if (bytes < 0) return tl::unexpected(Error::FromErrno(path_, errno));
    next_ = 0;
    used_ = static_cast<size_t>(bytes);
    bytes_ += used_;
    if (bytes_ > limits_.max_bytes) {
      return tl::unexpected(Error::TooLarge(path_, "more than " + std::to_string(limits_.max_bytes) + " bytes"));
    }
    return used_ != 0;
  }
}

void LineReader::Keep(std::string_view part) {
  line_ += part.substr(0, limits_.max_line_bytes - std::min(line_.size(), limits_.max_line_bytes));
}

Result<std::optional<std::string_view>> LineReader::Next() {
  line_.clear();
  bool began = false;
  for (;;) {
    const std::string_view rest(buffer_->data() + next_, used_ - next_);
    const size_t length = rest.find('\n');
    if (length != std::string_view::npos) {
      next_ += length + 1;
      if (!began) return rest.substr(0, std::min(length, limits_.max_line_bytes));
      Keep(rest.substr(0, length));
      return line_;
    }
    began = began || !rest.empty();
    Keep(rest);
    const auto filled = Fill();
    if (!filled) return tl::unexpected(filled.error());
    if (*filled) continue;
    if (!began) return std::nullopt;
    return line_;
  }
}

}  // namespace cow::procfs
