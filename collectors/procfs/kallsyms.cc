#include "collectors/procfs/kallsyms.h"

#include <algorithm>
#include <limits>
#include <unordered_map>

#include "collectors/base/text.h"
#include "collectors/procfs/line_reader.h"

namespace cow::procfs {

Result<KernelSymbols> KernelSymbols::Read(const Root& root) {
  constexpr LineReader::Limits kLimits{uint64_t{128} << 20U, 1024};
  auto lines = LineReader::Open(root, root.ProcPath("kallsyms"), kLimits);
  if (!lines) return tl::unexpected(lines.error());
  KernelSymbols symbols;
  symbols.modules_.emplace_back();
  std::unordered_map<std::string, uint16_t> numbers{{"", 0}};
  for (;;) {
    const auto line = lines->Next();
    if (!line) return tl::unexpected(line.error());
    if (!*line) break;
    std::string_view rest = **line;
    const auto address = text::ParseNumber<uint64_t>(text::NextField(rest), 16);
    const std::string_view type = text::NextField(rest);
    const std::string_view name = text::NextField(rest);
    const std::string_view module = text::NextField(rest);  // "[nf_tables]"
    if (!address || type.size() != 1 || name.empty()) {
      return tl::unexpected(Error::Malformed(lines->path(), text::Quote(**line)));
    }
    // Data symbols are kept too: they end the last function before them.
    if (*address == 0) continue;
    const auto [known, is_new] =
        numbers.try_emplace(std::string(module), static_cast<uint16_t>(symbols.modules_.size()));
    if (is_new) {
      if (symbols.modules_.size() > std::numeric_limits<uint16_t>::max()) {
        return tl::unexpected(Error::TooLarge(lines->path(), "too many modules"));
      }
      symbols.modules_.emplace_back(module.size() > 2 ? module.substr(1, module.size() - 2) : module);
    }
    const bool is_code = type == "t" || type == "T" || type == "w" || type == "W";
    symbols.entries_.push_back({*address, static_cast<uint32_t>(symbols.names_.size()),
                                static_cast<uint16_t>(is_code ? name.size() : 0), known->second});
    if (is_code) symbols.names_ += name;
  }
  if (symbols.entries_.empty()) {
    return tl::unexpected(Error{ErrorKind::kDenied, lines->path(), 0, "the kernel hides its addresses"});
  }
  std::stable_sort(symbols.entries_.begin(), symbols.entries_.end(),
                   [](const Entry& a, const Entry& b) { return a.address < b.address; });
  return symbols;
}

std::optional<KernelSymbols::Name> KernelSymbols::Find(uint64_t address) const {
  const auto above = std::upper_bound(entries_.begin(), entries_.end(), address,
                                      [](uint64_t value, const Entry& entry) { return value < entry.address; });
  if (above == entries_.begin() || above == entries_.end()) return std::nullopt;
  // The first of several names of one address; code before data.
  const uint64_t start = std::prev(above)->address;
  auto entry = std::lower_bound(entries_.begin(), above, start,
                                [](const Entry& each, uint64_t value) { return each.address < value; });
  while (entry != above && entry->length == 0) ++entry;
  if (entry == above || entry->module != above->module) return std::nullopt;
  return Name{names_.substr(entry->name, entry->length), modules_[entry->module]};
}

}  // namespace cow::procfs
