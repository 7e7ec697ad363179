#include "collectors/symbols/perf_map.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <utility>

#include "collectors/base/text.h"

namespace cow::symbols {
namespace {

std::optional<uint64_t> ParseAddress(std::string_view field) {
  if (field.starts_with("0x") || field.starts_with("0X")) field.remove_prefix(2);
  return text::ParseNumber<uint64_t>(field, 16);
}

}  // namespace

PerfMap PerfMap::Parse(std::string_view text) {
  PerfMap map;
  map.text_ = text.substr(0, kMaxBytes);
  // The last line may not be complete yet.
  std::string_view rest(map.text_);
  rest = rest.substr(0, rest.rfind('\n') + 1);
  std::string_view line;
  while (text::NextLine(rest, line)) map.TakeLine(line);
  return map;
}

PerfMap PerfMap::Read(const procfs::FileDescriptor& file) {
  std::string text;
  constexpr size_t kChunkBytes = size_t{1} << 20U;
  while (text.size() < kMaxBytes) {
    const size_t before = text.size();
    text.resize(before + kChunkBytes);
    ssize_t bytes = 0;
    do {
      bytes = pread(file.get(), text.data() + before, kChunkBytes, static_cast<off_t>(before));
    } while (bytes < 0 && errno == EINTR);
    text.resize(before + static_cast<size_t>(std::max<ssize_t>(bytes, 0)));
    if (bytes <= 0) break;
  }
  return Parse(text);
}

void PerfMap::TakeLine(std::string_view line) {
  std::string_view rest = line;
  const auto start = ParseAddress(text::NextField(rest));
  const auto bytes = ParseAddress(text::NextField(rest));
  const std::string_view name = text::Trim(rest).substr(0, kMaxNameBytes);
  if (!start || !bytes || name.empty() || *bytes == 0 || *start + *bytes < *start) return;
  const uint64_t end = *start + *bytes;
  // Functions that this one covers, also in part, were freed before.
  auto next = functions_.lower_bound(*start);
  if (next != functions_.begin() && std::prev(next)->second.end > *start) --next;
  while (next != functions_.end() && next->first < end) next = functions_.erase(next);
  functions_[*start] = {end, static_cast<size_t>(name.data() - text_.data()), name.size()};
}

std::optional<std::string_view> PerfMap::Find(uint64_t address) const {
  const auto above = functions_.upper_bound(address);
  if (above == functions_.begin()) return std::nullopt;
  const Function& function = std::prev(above)->second;
  if (address >= function.end) return std::nullopt;
  return std::string_view(text_).substr(function.name, function.name_bytes);
}

}  // namespace cow::symbols
