#include "collectors/procfs/fork_counter.h"

#include <utility>

#include "collectors/base/text.h"
#include "collectors/procfs/root.h"

namespace cow::procfs {
namespace {

constexpr size_t kFirstTextBytes = 4096;

}  // namespace

ForkCounter::ForkCounter(const Root& root)
    : root_(root), is_loadavg_(RequireOwnPids(root).has_value()), text_(kFirstTextBytes, '\0') {
  path_ = root_.ProcPath(is_loadavg_ ? "loadavg" : "stat");
}

Result<uint64_t> ForkCounter::Read() {
  if (!file_.valid()) {
    auto opened = OpenReadOnly(root_, path_);
    if (!opened) return tl::unexpected(opened.error());
    file_ = std::move(*opened);
  }
  const auto text = ReadAtOnce(file_, root_.interposer(), path_, text_);
  if (!text) return tl::unexpected(text.error());
  return is_loadavg_ ? ParseLastPid(*text, path_) : ParseForks(*text, path_);
}

Result<uint64_t> ParseLastPid(std::string_view text, const std::string& path) {
  const std::string_view fields = text::FirstLine(text);
  const size_t blank = fields.rfind(' ');
  return text::NumberField<uint64_t>(path, "last pid",
                                     blank == std::string_view::npos ? std::string_view() : fields.substr(blank + 1));
}

Result<uint64_t> ParseForks(std::string_view text, const std::string& path) {
  constexpr std::string_view kKey = "processes ";
  std::string_view line;
  while (text::NextLine(text, line)) {
    if (line.starts_with(kKey))
      return text::NumberField<uint64_t>(path, "processes", text::Trim(line.substr(kKey.size())));
  }
  return tl::unexpected(text::MissingField(path, "processes"));
}

}  // namespace cow::procfs
