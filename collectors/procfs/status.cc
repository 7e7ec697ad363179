#include "collectors/procfs/status.h"

#include <array>
#include <csignal>
#include <cstddef>
#include <utility>

#include "collectors/base/text.h"
#include "collectors/procfs/line_reader.h"

namespace cow::procfs {
namespace {

struct StatusSize {
  std::string_view key;
  std::optional<uint64_t> Status::*member;
};

constexpr std::array<StatusSize, 5> kStatusSizes{{{"RssAnon", &Status::rss_anon_bytes},
                                                  {"RssFile", &Status::rss_file_bytes},
                                                  {"RssShmem", &Status::rss_shmem_bytes},
                                                  {"VmSwap", &Status::swap_bytes},
                                                  {"HugetlbPages", &Status::hugetlb_bytes}}};

class StatusParser {
 public:
  explicit StatusParser(const std::string& path) : path_(path), fields_(path) {}

  Result<void> Take(std::string_view line) {
    std::string_view value = line;
    const std::string_view key = text::CutAt(value, ':');
    if (key == "Tgid") {
      fields_.Get(key, text::Trim(value), tgid_.emplace());
    } else if (key == "NSpid") {
      // From the namespace of this procfs inwards.
      for (auto field = text::NextField(value); !field.empty(); field = text::NextField(value)) {
        fields_.Get(key, field, status_.innermost_pid);
      }
    } else if (key == "Uid") {
      text::NextField(value);  // the real uid
      fields_.Get("effective Uid", text::NextField(value), uid_.emplace());
    } else if (key == "CapEff") {
      fields_.Get(key, text::Trim(value), status_.effective_capabilities.emplace(), 16);
    } else if (key == "SigIgn") {
      uint64_t ignored = 0;
      fields_.Get(key, text::Trim(value), ignored, 16);
      status_.ignores_children = ((ignored >> (SIGCHLD - 1)) & 1) != 0;
    }
    for (const auto& [name, size] : kStatusSizes) {
      if (key != name) continue;
      const auto bytes = text::KilobytesField(path_, key, value);
      if (!bytes) return tl::unexpected(bytes.error());
      status_.*size = *bytes;
    }
    return {};
  }

  Result<Status> Finish() {
    if (fields_.error()) return tl::unexpected(*fields_.error());
    if (!tgid_) return tl::unexpected(text::MissingField(path_, "Tgid"));
    if (*tgid_ < 0) return tl::unexpected(text::BadField(path_, "Tgid", std::to_string(*tgid_)));
    if (!uid_) return tl::unexpected(text::MissingField(path_, "Uid"));
    status_.tgid = *tgid_;
    status_.effective_uid = *uid_;
    return status_;
  }

 private:
  const std::string& path_;
  text::NumberFields fields_;
  Status status_;
  std::optional<pid_t> tgid_;
  std::optional<uint32_t> uid_;
};

// The line `Groups` has up to 65,536 numbers.
Result<Status> ReadPath(const Root& root, std::string path) {
  constexpr LineReader::Limits kLimits{uint64_t{1} << 20, 512};
  auto lines = LineReader::Open(root, std::move(path), kLimits);
  if (!lines) return tl::unexpected(lines.error());
  StatusParser parser(lines->path());
  for (;;) {
    const auto line = lines->Next();
    if (!line) return tl::unexpected(line.error());
    if (!*line) return parser.Finish();
    if (auto taken = parser.Take(**line); !taken) return tl::unexpected(taken.error());
  }
}

}  // namespace

Result<Status> ReadStatus(const Root& root, TaskId task) { return ReadPath(root, root.ProcPath(task, "status")); }

Result<Status> ReadSelfStatus(const Root& root) { return ReadPath(root, root.ProcPath("self/status")); }

Result<Status> ParseStatus(std::string_view text, const std::string& path) {
  StatusParser parser(path);
  std::string_view line;
  while (text::NextLine(text, line)) {
    if (auto taken = parser.Take(line); !taken) return tl::unexpected(taken.error());
  }
  return parser.Finish();
}

}  // namespace cow::procfs
