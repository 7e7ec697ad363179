#include "collectors/procfs/smaps.h"

#include <array>
#include <cstddef>
#include <string>
#include <utility>

#include "collectors/procfs/text.h"

namespace cow::procfs {
namespace {

struct SizeField {
  std::string_view key;
  uint64_t SmapsVma::*member;
};

constexpr std::array<SizeField, 10> kSizeFields{{{"KernelPageSize", &SmapsVma::kernel_page_bytes},
                                                 {"Rss", &SmapsVma::rss_bytes},
                                                 {"Pss", &SmapsVma::pss_bytes},
                                                 {"Shared_Clean", &SmapsVma::shared_clean_bytes},
                                                 {"Shared_Dirty", &SmapsVma::shared_dirty_bytes},
                                                 {"Private_Clean", &SmapsVma::private_clean_bytes},
                                                 {"Private_Dirty", &SmapsVma::private_dirty_bytes},
                                                 {"Anonymous", &SmapsVma::anonymous_bytes},
                                                 {"AnonHugePages", &SmapsVma::anon_huge_bytes},
                                                 {"Swap", &SmapsVma::swap_bytes}}};

// Cuts one VMA with its fields off `text`: its line as in maps, then lines "Key:   123 kB" (and some without a unit).
Result<SmapsVma> ParseOne(std::string_view& text, const std::string& path) {
  std::string_view line;
  text::NextLine(text, line);
  auto vma = ParseMapsLine(line, path);
  if (!vma) return tl::unexpected(vma.error());
  SmapsVma smaps;
  smaps.vma = std::move(*vma);
  bool has_rss = false;
  for (std::string_view rest = text; text::NextLine(rest, line); text = rest) {
    std::string_view value = line;
    std::string_view key = text::NextField(value);
    if (!key.ends_with(':')) break;  // the next VMA's line: no address ends so
    key.remove_suffix(1);
    for (const SizeField& field : kSizeFields) {
      if (key != field.key) continue;
      const auto bytes = text::KilobytesField(path, key, value);
      if (!bytes) return tl::unexpected(bytes.error());
      smaps.*field.member = *bytes;
      has_rss = has_rss || field.member == &SmapsVma::rss_bytes;
    }
  }
  if (!has_rss) return tl::unexpected(text::MissingField(path, "Rss"));
  return smaps;
}

Error NoAddressSpace(const std::string& path) { return {ErrorKind::kGone, path, 0, "empty: no address space"}; }

}  // namespace

Result<std::vector<SmapsVma>> ReadSmaps(const Root& root, pid_t pid) {
  const std::string path = root.ProcPath(pid, "smaps");
  const auto text = ReadTextFile(root, path);
  if (!text) return tl::unexpected(text.error());
  return ParseSmaps(*text, path);
}

Result<std::vector<SmapsVma>> ParseSmaps(std::string_view text, const std::string& path) {
  if (text.empty()) return tl::unexpected(NoAddressSpace(path));
  std::vector<SmapsVma> vmas;
  uint64_t previous_end = 0;
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    auto smaps = ParseOne(text, path);
    if (!smaps) return tl::unexpected(smaps.error());
    if (smaps->vma.start >= smaps->vma.end) return tl::unexpected(text::BadField(path, "address range", line));
    if (smaps->vma.start < previous_end) return tl::unexpected(text::BadField(path, "order of addresses", line));
    previous_end = smaps->vma.end;
    vmas.push_back(std::move(*smaps));
  }
  return vmas;
}

Result<SmapsVma> ReadSmapsRollup(const Root& root, pid_t pid) {
  const std::string path = root.ProcPath(pid, "smaps_rollup");
  const auto text = ReadTextFile(root, path);
  if (!text) return tl::unexpected(text.error());
  if (text->empty()) return tl::unexpected(NoAddressSpace(path));
  std::string_view rest = *text;
  auto sums = ParseOne(rest, path);
  if (sums && !rest.empty()) return tl::unexpected(text::BadField(path, "line", rest.substr(0, rest.find('\n'))));
  return sums;
}

}  // namespace cow::procfs
