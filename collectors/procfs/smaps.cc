#include "collectors/procfs/smaps.h"

#include <array>
#include <cstddef>
#include <span>
#include <utility>

#include "collectors/base/text.h"
#include "collectors/procfs/line_reader.h"

namespace cow::procfs {
namespace {

constexpr std::array<std::pair<std::string_view, std::optional<uint64_t> SmapsRollup::*>, 18> kRollupFields{
    {{"Rss", &SmapsRollup::rss_bytes},
     {"Pss", &SmapsRollup::pss_bytes},
     {"Shared_Clean", &SmapsRollup::shared_clean_bytes},
     {"Shared_Dirty", &SmapsRollup::shared_dirty_bytes},
     {"Private_Clean", &SmapsRollup::private_clean_bytes},
     {"Private_Dirty", &SmapsRollup::private_dirty_bytes},
     {"Anonymous", &SmapsRollup::anonymous_bytes},
     {"LazyFree", &SmapsRollup::lazy_free_bytes},
     {"AnonHugePages", &SmapsRollup::anon_huge_bytes},
     {"Shared_Hugetlb", &SmapsRollup::shared_hugetlb_bytes},
     {"Private_Hugetlb", &SmapsRollup::private_hugetlb_bytes},
     {"Swap", &SmapsRollup::swap_bytes},
     {"SwapPss", &SmapsRollup::swap_pss_bytes},
     {"Pss_Anon", &SmapsRollup::pss_anon_bytes},
     {"Pss_File", &SmapsRollup::pss_file_bytes},
     {"Pss_Shmem", &SmapsRollup::pss_shmem_bytes},
     {"Pss_Dirty", &SmapsRollup::pss_dirty_bytes},
     {"KSM", &SmapsRollup::ksm_bytes}}};
constexpr size_t kFirstRollupFields = 13;  // in the order of the table: those of 4.14

Error NoAddressSpace(const std::string& path) { return {ErrorKind::kGone, path, 0, "empty: no address space"}; }

// Parses the lines of each VMA: the line of maps, then lines "Key:   123 kB", some of them without a unit.
class Parser {
 public:
  Parser(const std::string& path, size_t max_vmas) : path_(path), max_vmas_(max_vmas) {}

  Result<void> Take(std::string_view line) {
    std::string_view value = line;
    std::string_view key = text::NextField(value);
    if (!key.ends_with(':')) return Begin(line);  // an address range never ends with a colon
    if (vmas_.empty()) return tl::unexpected(text::BadField(path_, "line", line));
    key.remove_suffix(1);
    if (key != "Rss" && key != "Swap") return {};
    const auto bytes = text::KilobytesField(path_, key, value);
    if (!bytes) return tl::unexpected(bytes.error());
    (key == "Rss" ? vmas_.back().rss_bytes : vmas_.back().swap_bytes) = *bytes;
    has_rss_ = has_rss_ || key == "Rss";
    return {};
  }

  Result<std::vector<SmapsVma>> Finish() {
    if (vmas_.empty()) return tl::unexpected(NoAddressSpace(path_));
    if (!has_rss_) return tl::unexpected(text::MissingField(path_, "Rss"));
    return std::move(vmas_);
  }

 private:
  Result<void> Begin(std::string_view line) {
    if (!vmas_.empty() && !has_rss_) return tl::unexpected(text::MissingField(path_, "Rss"));
    if (vmas_.size() == max_vmas_) {
      return tl::unexpected(Error::TooLarge(path_, "more than " + std::to_string(max_vmas_) + " mappings"));
    }
    auto vma = ParseMapsLine(line, path_);
    if (!vma) return tl::unexpected(vma.error());
    if (vma->start >= vma->end) return tl::unexpected(text::BadField(path_, "address range", line));
    if (!vmas_.empty() && vma->start < vmas_.back().vma.end) {
      return tl::unexpected(text::BadField(path_, "order of addresses", line));
    }
    vmas_.emplace_back().vma = std::move(*vma);
    has_rss_ = false;
    return {};
  }

  const std::string& path_;
  size_t max_vmas_;
  std::vector<SmapsVma> vmas_;
  bool has_rss_ = false;  // the last VMA has a line Rss
};

}  // namespace

Result<std::vector<SmapsVma>> ReadSmaps(const Root& root, TaskId task) {
  constexpr MapsLimits kOfMaps;
  // smaps has about thirty lines for each line of maps.
  auto lines = LineReader::Open(root, root.ProcPath(task, "smaps"), {8 * kOfMaps.max_bytes, 128 + kMaxPathBytes});
  if (!lines) return tl::unexpected(lines.error());
  Parser parser(lines->path(), kOfMaps.max_vmas);
  for (;;) {
    const auto line = lines->Next();
    if (!line) return tl::unexpected(line.error());
    if (!*line) return parser.Finish();
    if (auto taken = parser.Take(**line); !taken) return tl::unexpected(taken.error());
  }
}

Result<std::vector<SmapsVma>> ParseSmaps(std::string_view text, const std::string& path) {
  Parser parser(path, MapsLimits().max_vmas);
  std::string_view line;
  while (text::NextLine(text, line)) {
    if (auto taken = parser.Take(line); !taken) return tl::unexpected(taken.error());
  }
  return parser.Finish();
}

Result<SmapsRollup> ReadSmapsRollup(const Root& root, TaskId task) {
  const std::string path = root.ProcPath(task, "smaps_rollup");
  return ReadTextFile(root, path).and_then([&](const std::string& text) { return ParseSmapsRollup(text, path); });
}

Result<SmapsRollup> ParseSmapsRollup(std::string_view text, const std::string& path) {
  if (text.empty()) return tl::unexpected(NoAddressSpace(path));
  std::string_view line;
  text::NextLine(text, line);
  // The first line gives the span of the address space as one VMA.
  const auto span = ParseMapsLine(line, path);
  if (!span) return tl::unexpected(span.error());
  SmapsRollup sums;
  while (text::NextLine(text, line)) {
    std::string_view value = line;
    std::string_view key = text::NextField(value);
    if (!key.ends_with(':')) return tl::unexpected(text::BadField(path, "line", line));
    key.remove_suffix(1);
    for (const auto& [name, field] : kRollupFields) {
      if (key != name) continue;
      const auto bytes = text::KilobytesField(path, key, value);
      if (!bytes) return tl::unexpected(bytes.error());
      sums.*field = *bytes;
    }
  }
  for (const auto& [name, field] : std::span(kRollupFields).first(kFirstRollupFields)) {
    if (!(sums.*field)) return tl::unexpected(text::MissingField(path, name));
  }
  return sums;
}

}  // namespace cow::procfs
