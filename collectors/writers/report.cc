#include "collectors/writers/report.h"

#include <algorithm>
#include <map>
#include <string_view>
#include <tuple>
#include <utility>

namespace cow::writers {
namespace {

// Copying and allocating serve their callers.
bool IsCLibrary(const symbols::Symbol& code) {
  const std::string_view path = code.object;
  const std::string_view name = path.substr(path.rfind('/') + 1);
  return name.starts_with("libc.so") || name.starts_with("libc-2") || name.starts_with("ld-linux");
}

// What counts as the same code.
using CodeKey = std::tuple<std::string, std::string, uint64_t, std::string>;
CodeKey KeyOf(const symbols::Symbol& code) {
  return {code.function.value_or(""), code.object, code.function ? 0 : code.offset, code.build_id};
}

}  // namespace

void SortLargestFirst(std::vector<Writer>& writers) {
  std::stable_sort(writers.begin(), writers.end(), [](const Writer& a, const Writer& b) {
    return std::pair(a.pages, a.records) > std::pair(b.pages, b.records);
  });
}

const symbols::Symbol& PurposeOf(const Writer& writer) {
  const bool is_kernel = writer.code().kind == symbols::Symbol::Kind::kKernel;
  if (!is_kernel && !IsCLibrary(writer.code())) return writer.code();
  const auto purpose = std::find_if(writer.frames.begin() + 1, writer.frames.end(), [is_kernel](const auto& frame) {
    return frame.function && frame.kind != symbols::Symbol::Kind::kKernel && (is_kernel || !IsCLibrary(frame));
  });
  return purpose == writer.frames.end() ? writer.code() : *purpose;
}

std::vector<Writer> MergeCallers(const Report& report) {
  using Key = std::tuple<CodeKey, CodeKey, Side, memory::MappingKind>;
  std::map<Key, Writer> merged;
  // Largest first, so the first of each key names the offset.
  for (const Writer& writer : report.writers) {
    const symbols::Symbol& purpose = PurposeOf(writer);
    const Key key{KeyOf(writer.code()), KeyOf(purpose), writer.side, writer.mapping};
    const auto [item, is_new] = merged.try_emplace(key, Writer{{writer.code()}, writer.side, writer.mapping, 0, 0});
    if (is_new && &purpose != &writer.code()) item->second.frames.push_back(purpose);
    item->second.pages += writer.pages;
    item->second.records += writer.records;
  }
  std::vector<Writer> writers;
  writers.reserve(merged.size());
  for (auto& [key, writer] : merged) writers.push_back(std::move(writer));
  SortLargestFirst(writers);
  return writers;
}

}  // namespace cow::writers
