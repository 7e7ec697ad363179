#include "collectors/procfs/vmstat.h"

#include "collectors/base/text.h"

namespace cow::procfs {

Result<Vmstat> ReadVmstat(const Root& root) {
  const std::string path = root.ProcPath("vmstat");
  return ReadTextFile(root, path).and_then([&](const std::string& text) { return ParseVmstat(text, path); });
}

Result<Vmstat> ParseVmstat(std::string_view text, const std::string& path) {
  Vmstat vmstat;
  std::string_view line;
  while (text::NextLine(text, line)) {
    const std::string_view name = text::NextField(line);
    uint64_t* field = nullptr;
    if (name == "pswpin" || name == "zswpin" || name == "swpin_zero") field = &vmstat.swapped_in_pages;
    if (name == "pswpout") field = &vmstat.swapped_out_pages;
    if (name == "thp_collapse_alloc") field = &vmstat.huge_collapses;
    if (name == "pgmigrate_success") field = &vmstat.migrated_pages;
    if (field == nullptr) continue;
    const auto value = text::NumberField<uint64_t>(path, name, text::NextField(line));
    if (!value) return tl::unexpected(value.error());
    *field += *value;
  }
  return vmstat;
}

}  // namespace cow::procfs
