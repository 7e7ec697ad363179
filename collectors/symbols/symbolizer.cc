#include "collectors/symbols/symbolizer.h"

#include <algorithm>
#include <cstring>
#include <memory>

#include "collectors/base/utf8.h"
#include "collectors/procfs/maps.h"
#include "collectors/symbols/elf_symbols.h"
#include "collectors/symbols/worker.h"

namespace cow::symbols {
namespace {

constexpr size_t kMaxBuildIdBytes = 64;
constexpr size_t kMaxRegisters = 64;
constexpr size_t kMaxHopeless = 4096;
constexpr size_t kMaxHopelessLayouts = 64;

std::string Printable(std::string_view raw, size_t max_bytes) {
  std::string text = LabelValue(raw, max_bytes);
  constexpr unsigned char kDelete = 0x7f;
  std::replace_if(
      text.begin(), text.end(),
      [](char each) {
        const auto byte = static_cast<unsigned char>(each);
        return byte < ' ' || byte == kDelete;
      },
      '?');
  return text;
}

// The kernel keeps 20 bytes of a build ID.
bool AreSameBuildIds(std::string_view a, std::string_view b) {
  const size_t bytes = std::min(a.size(), b.size());
  return a.substr(0, bytes) == b.substr(0, bytes);
}

}  // namespace

Symbolizer::Symbolizer(Options options, procfs::Root root)
    : options_(options), root_(std::move(root)), keeper_(&RunWorker), restarts_left_(options.restarts) {}

Symbol Symbolizer::Resolve(const CodeLocation& location) {
  Symbol symbol;
  switch (location.kind) {
    case CodeLocation::Kind::kKernel:
      return ResolveKernel(location.address);
    case CodeLocation::Kind::kFile:
      return ResolveFile(location);
    case CodeLocation::Kind::kAnonymous:
      if (auto jit = ResolveJit(location)) return *jit;
      symbol.object = "[anonymous]";
      break;
    case CodeLocation::Kind::kUnknown:
      // A JIT may have made memory executable after it was mapped.
      if (auto jit = ResolveJit(location)) return *jit;
      symbol.object = "[unknown]";
      break;
  }
  symbol.offset = location.address;
  return symbol;
}

Result<void> Symbolizer::ReadKernelSymbols() {
  if (!kernel_) kernel_ = procfs::KernelSymbols::Read(root_);
  if (!*kernel_) return tl::unexpected(kernel_->error());
  return {};
}

Symbol Symbolizer::ResolveKernel(uint64_t address) {
  Symbol symbol;
  symbol.kind = Symbol::Kind::kKernel;
  symbol.object = "[kernel]";
  symbol.offset = address;
  if (!ReadKernelSymbols()) return symbol;
  const auto name = (*kernel_)->Find(address);
  if (!name) return symbol;
  symbol.function = Printable(name->function, ElfSymbols::kMaxNameBytes);
  if (!name->module.empty()) symbol.object = Printable("[" + name->module + "]", ElfSymbols::kMaxNameBytes);
  return symbol;
}

Symbol Symbolizer::ResolveFile(const CodeLocation& location) {
  const std::shared_ptr<const CodeFile>& file = location.file;
  const auto known = names_.find({file->number, location.offset});
  if (known != names_.end()) return known->second;
  Symbol symbol;
  symbol.kind = Symbol::Kind::kUser;
  symbol.object = Printable(file->path, procfs::kMaxPathBytes);
  symbol.offset = location.offset;
  symbol.offset_is_file = true;
  symbol.build_id = Hexadecimal(std::string_view(file->build_id).substr(0, kMaxBuildIdBytes));
  if (!file->descriptor.valid() || hopeless_.contains(file->number)) return symbol;
  const auto answer = AskAbout(file, location.offset);
  if (!answer) return symbol;
  const MessageHead& head = answer->head;
  if (head.status == NameStatus::kNoFile) {
    // .NET and others map their code from a memfd.
    if (auto jit = ResolveJit(location)) return *jit;
  } else if (head.number <= std::min(answer->bytes.size(), kMaxBuildIdBytes)) {
    const std::string_view build_id = std::string_view(answer->bytes).substr(0, head.number);
    if (AreSameBuildIds(build_id, file->build_id)) {
      symbol.build_id = Hexadecimal(build_id);
      if (head.status != NameStatus::kNoAddress) {
        symbol.offset = head.value;
        symbol.offset_is_file = false;
      }
      const std::string_view name = std::string_view(answer->bytes).substr(head.number);
      if (head.status == NameStatus::kFunction && !name.empty()) {
        symbol.function = Printable(name, ElfSymbols::kMaxNameBytes);
      }
    }
  }
  if (names_.size() >= options_.names) names_.clear();
  names_[{file->number, location.offset}] = symbol;
  return symbol;
}

std::optional<Symbol> Symbolizer::ResolveJit(const CodeLocation& location) {
  for (const pid_t pid : {location.pid, location.mapped_by}) {
    const auto prepare = [&]() -> std::optional<MessageHead> {
      const auto map = SendPerfMap(pid);
      if (!map) return std::nullopt;
      return MessageHead{MessageType::kMapName, NameStatus::kNoFile, *map, location.address};
    };
    bool is_fatal = false;
    const auto answer = Ask(prepare, {}, MessageType::kNamed, is_fatal);
    if (answer && answer->head.status == NameStatus::kFunction && !answer->bytes.empty()) {
      Symbol symbol;
      symbol.kind = Symbol::Kind::kJit;
      symbol.function = Printable(answer->bytes, ElfSymbols::kMaxNameBytes);
      symbol.object = "[jit]";
      symbol.offset = location.address;
      return symbol;
    }
    if (location.mapped_by == location.pid) break;
  }
  return std::nullopt;
}

std::optional<Message> Symbolizer::AskAbout(const std::shared_ptr<const CodeFile>& file, uint64_t offset) {
  const auto prepare = [&]() -> std::optional<MessageHead> {
    if (!SendFile(file)) return std::nullopt;
    return MessageHead{MessageType::kName, NameStatus::kNoFile, file->number, offset};
  };
  bool is_fatal = false;
  auto answer = Ask(prepare, {}, MessageType::kNamed, is_fatal);
  if (is_fatal) {
    if (hopeless_.size() >= kMaxHopeless) hopeless_.clear();
    hopeless_.insert(file->number);
    ++counts_.hopeless_files;
  }
  return answer;
}

void Symbolizer::TryFiles(const CodeMaps::Mappings& mappings) {
  if (tried_.size() >= options_.names) tried_.clear();
  for (const Mapping& each : *mappings) {
    if (each.file == nullptr || !each.file->descriptor.valid() || hopeless_.contains(each.file->number)) continue;
    if (tried_.contains(each.file->number)) continue;
    if (AskAbout(each.file, each.file_offset)) tried_.insert(each.file->number);
  }
}

std::vector<uint64_t> Symbolizer::Unwind(const CodeMaps& maps, pid_t pid, std::span<const uint64_t> registers,
                                         std::string_view stack) {
  const CodeMaps::Mappings mappings = maps.MappingsOf(pid);
  if (mappings == nullptr || registers.empty() || registers.size() > kMaxRegisters) return {};
  if (hopeless_layouts_.contains(mappings)) return {};
  TryFiles(mappings);
  std::string bytes(reinterpret_cast<const char*>(registers.data()), registers.size_bytes());
  bytes += stack.substr(0, kMaxMessageBytes - sizeof(MessageHead) - bytes.size());
  const auto prepare = [&]() -> std::optional<MessageHead> {
    const auto layout = SendLayout(mappings);
    if (!layout) return std::nullopt;
    return MessageHead{MessageType::kUnwind, NameStatus::kNoFile, *layout, registers.size()};
  };
  bool is_fatal = false;
  const auto answer = Ask(prepare, bytes, MessageType::kFrames, is_fatal);
  if (is_fatal) {
    if (hopeless_layouts_.size() >= kMaxHopelessLayouts) hopeless_layouts_.clear();
    hopeless_layouts_.insert(mappings);
  }
  if (!answer) return {};
  std::vector<uint64_t> frames(answer->bytes.size() / sizeof(uint64_t));
  if (!frames.empty()) std::memcpy(frames.data(), answer->bytes.data(), frames.size() * sizeof(uint64_t));
  return frames;
}

}  // namespace cow::symbols
