#include "collectors/procfs/status.h"

#include <array>
#include <cstddef>

#include "collectors/procfs/text.h"

namespace cow::procfs {
namespace {

struct SizeField {
  std::string_view key;
  std::optional<uint64_t> Status::*member;
};

constexpr std::array<SizeField, 5> kSizeFields{{{"RssAnon", &Status::rss_anon_bytes},
                                                {"RssFile", &Status::rss_file_bytes},
                                                {"RssShmem", &Status::rss_shmem_bytes},
                                                {"VmSwap", &Status::swap_bytes},
                                                {"HugetlbPages", &Status::hugetlb_bytes}}};

// The kernel escapes newline and backslash only.
std::string Unescape(std::string_view escaped) {
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

Result<Status> ReadPath(const std::string& path) {
  const auto text = ReadTextFile(path);
  if (!text) return tl::unexpected(text.error());
  return ParseStatus(*text, path);
}

}  // namespace

Result<Status> ReadStatus(const Root& root, TaskId task) { return ReadPath(root.ProcPath(task, "status")); }

Result<Status> ReadSelfStatus(const Root& root) { return ReadPath(root.ProcPath("self/status")); }

Result<Status> ParseStatus(std::string_view text, const std::string& path) {
  Status status;
  bool has_name = false;
  std::string_view tgid_text;
  std::string_view ppid_text;
  std::string_view uid_text;
  std::string_view line;
  while (text::NextLine(text, line)) {
    std::string_view value = line;
    const std::string_view key = text::CutAt(value, ':');
    if (key == "Name") {
      if (value.starts_with('\t')) value.remove_prefix(1);  // blanks after it are the name's own
      status.name = Unescape(value);
      has_name = true;
    } else if (key == "Tgid") {
      tgid_text = text::Trim(value);
    } else if (key == "PPid") {
      ppid_text = text::Trim(value);
    } else if (key == "Uid") {
      text::NextField(value);  // the real one
      uid_text = text::NextField(value);
    } else if (key == "CapEff") {
      const auto capabilities = text::NumberField<uint64_t>(path, key, text::Trim(value), 16);
      if (!capabilities) return tl::unexpected(capabilities.error());
      status.effective_capabilities = *capabilities;
    } else {
      for (const SizeField& field : kSizeFields) {
        if (key != field.key) continue;
        const auto bytes = text::KilobytesField(path, key, value);
        if (!bytes) return tl::unexpected(bytes.error());
        status.*field.member = *bytes;
      }
    }
  }
  if (!has_name) return tl::unexpected(text::MissingField(path, "Name"));
  const auto tgid = text::NumberField<pid_t>(path, "Tgid", tgid_text);
  if (!tgid) return tl::unexpected(tgid.error());
  if (*tgid < 0) return tl::unexpected(text::BadField(path, "Tgid", tgid_text));
  const auto ppid = text::NumberField<pid_t>(path, "PPid", ppid_text);
  if (!ppid) return tl::unexpected(ppid.error());
  if (*ppid < 0) return tl::unexpected(text::BadField(path, "PPid", ppid_text));
  const auto uid = text::NumberField<uint32_t>(path, "effective Uid", uid_text);
  if (!uid) return tl::unexpected(uid.error());
  status.tgid = *tgid;
  status.ppid = *ppid;
  status.effective_uid = *uid;
  return status;
}

}  // namespace cow::procfs
