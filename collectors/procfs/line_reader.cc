#include "collectors/procfs/line_reader.h"

#include <algorithm>
#include <span>

namespace cow::procfs {

Result<LineReader> LineReader::Open(const Root& root, std::string path, Limits limits) {
  return KernelFile::Open(root, std::move(path)).map([limits](KernelFile&& file) {
    return LineReader(std::move(file), limits);
  });
}

Result<bool> LineReader::Fill() {
  const auto bytes = file_.Read(std::as_writable_bytes(std::span(*buffer_)));
  if (!bytes) return tl::unexpected(bytes.error());
  next_ = 0;
  used_ = *bytes;
  bytes_ += used_;
  if (bytes_ > limits_.max_bytes) {
    return tl::unexpected(Error::TooLarge(path(), "more than " + std::to_string(limits_.max_bytes) + " bytes"));
  }
  return used_ != 0;
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
