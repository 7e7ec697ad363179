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

// The kernel escapes only newline and backslash.
std::string UnescapeName(std::string_view escaped) {
  std::string name;
  for (size_t i = 0; i < escaped.size(); ++i) {
    const std::string_view pair = escaped.substr(i, 2);
    if (pair == "\\n" || pair == "\\\\") {
      name += pair == "\\n" ? '\n' : '\\';
      ++i;
    } else {
      name += escaped[i];
    }
  }
  return name;
}

class StatusParser {
 public:
  explicit StatusParser(const std::string& path) : path_(path) {}

  Result<void> Take(std::string_view line) {
    std::string_view value = line;
    const std::string_view key = text::CutAt(value, ':');
    if (key == "Name") {
      if (value.starts_with('\t')) value.remove_prefix(1);  // further blanks belong to the name
      status_.name = UnescapeName(value);
      has_name_ = true;
    } else if (key == "Tgid") {
      tgid_ = text::Trim(value);
    } else if (key == "PPid") {
      ppid_ = text::Trim(value);
    } else if (key == "Uid") {
      text::NextField(value);  // the real uid
      uid_ = text::NextField(value);
    } else if (key == "CapEff") {
      const auto capabilities = text::NumberField<uint64_t>(path_, key, text::Trim(value), 16);
      if (!capabilities) return tl::unexpected(capabilities.error());
      status_.effective_capabilities = *capabilities;
    } else if (key == "SigIgn") {
      const auto ignored = text::NumberField<uint64_t>(path_, key, text::Trim(value), 16);
      if (!ignored) return tl::unexpected(ignored.error());
      status_.ignores_children = ((*ignored >> (SIGCHLD - 1)) & 1) != 0;
    } else {
      for (const StatusSize& field : kStatusSizes) {
        if (key != field.key) continue;
        const auto bytes = text::KilobytesField(path_, key, value);
        if (!bytes) return tl::unexpected(bytes.error());
        status_.*field.member = *bytes;
      }
    }
    return {};
  }

  Result<Status> Finish() {
    if (!has_name_) return tl::unexpected(text::MissingField(path_, "Name"));
    const auto tgid = text::NumberField<pid_t>(path_, "Tgid", tgid_);
    if (!tgid) return tl::unexpected(tgid.error());
    if (*tgid < 0) return tl::unexpected(text::BadField(path_, "Tgid", tgid_));
    const auto ppid = text::NumberField<pid_t>(path_, "PPid", ppid_);
    if (!ppid) return tl::unexpected(ppid.error());
    if (*ppid < 0) return tl::unexpected(text::BadField(path_, "PPid", ppid_));
    const auto uid = text::NumberField<uint32_t>(path_, "effective Uid", uid_);
    if (!uid) return tl::unexpected(uid.error());
    status_.tgid = *tgid;
    status_.ppid = *ppid;
    status_.effective_uid = *uid;
    return std::move(status_);
  }

 private:
  const std::string& path_;
  Status status_;
  bool has_name_ = false;
  std::string tgid_;
  std::string ppid_;
  std::string uid_;
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
