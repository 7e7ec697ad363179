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

// `told`: what the kernel told of the mapping, at most 20 bytes; empty if nothing.
bool CanBeOf(std::string_view build_id, std::string_view told) {
  const size_t bytes = std::min(build_id.size(), told.size());
  return told.empty() || (bytes > 0 && build_id.substr(0, bytes) == told.substr(0, bytes));
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
  const Place place(file->number, location.offset);
  const auto known = names_.find(place);
  if (known != names_.end()) return known->second;
  Symbol symbol;
  symbol.kind = Symbol::Kind::kUser;
  symbol.object = Printable(file->path, procfs::kMaxPathBytes);
  symbol.offset = location.offset;
  symbol.offset_is_file = true;
  symbol.build_id = Hexadecimal(std::string_view(file->build_id).substr(0, kMaxBuildIdBytes));
  if (!file->descriptor.valid() || hopeless_.contains(file->number)) return symbol;
  if (!no_elf_.contains(file->number)) {
    const auto answer = AskAbout(file, location.offset);
    if (!answer) return symbol;
    if (answer->head.status != NameStatus::kNoFile) {
      TakeName(*answer, *file, symbol);
      if (names_.size() >= options_.names) names_.clear();
      return names_[place] = symbol;
    }
    if (no_elf_.size() >= options_.names) no_elf_.clear();
    no_elf_.insert(file->number);
  }
  // .NET and others map the code of their JIT from a memfd.
  return ResolveJit(location).value_or(symbol);
}

// The answer's name holds only if the file is the one that was mapped.
void Symbolizer::TakeName(const Message& answer, const CodeFile& file, Symbol& symbol) {
  const MessageHead& head = answer.head;
  const std::string_view bytes(answer.bytes);
  if (head.number > std::min(bytes.size(), kMaxBuildIdBytes)) return;
  const std::string_view build_id = bytes.substr(0, head.number);
  if (!CanBeOf(build_id, file.build_id)) return;
  symbol.build_id = Hexadecimal(build_id);
  if (head.status != NameStatus::kNoFunction && head.status != NameStatus::kFunction) return;
  symbol.offset = head.value;
  symbol.offset_is_file = false;
  const std::string_view name = bytes.substr(head.number);
  if (head.status == NameStatus::kFunction && !name.empty()) {
    symbol.function = Printable(name, ElfSymbols::kMaxNameBytes);
  }
}

std::optional<Symbol> Symbolizer::ResolveJit(const CodeLocation& location) {
  if (auto own = ResolveJitOf(location.pid, location.address)) return own;
  if (location.mapped_by == location.pid) return std::nullopt;
  return ResolveJitOf(location.mapped_by, location.address);
}

std::optional<Symbol> Symbolizer::ResolveJitOf(pid_t pid, uint64_t address) {
  uint64_t map = 0;
  const std::optional<Symbol>* known = nullptr;
  const auto prepare = [&]() -> std::optional<MessageHead> {
    const auto number = SendPerfMap(pid);
    if (!number) return std::nullopt;
    map = *number;
    const auto found = jit_names_.find({map, address});
    if (found != jit_names_.end()) {
      known = &found->second;
      return std::nullopt;
    }
    return MessageHead{MessageType::kMapName, NameStatus::kNoFile, map, address};
  };
  bool is_fatal = false;
  const auto answer = Ask(prepare, {}, MessageType::kNamed, is_fatal);
  if (known != nullptr) return *known;
  if (!answer || answer->head.status == NameStatus::kNoFile) return std::nullopt;
  std::optional<Symbol> symbol;
  if (answer->head.status == NameStatus::kFunction && !answer->bytes.empty()) {
    symbol.emplace();
    symbol->kind = Symbol::Kind::kJit;
    symbol->function = Printable(answer->bytes, ElfSymbols::kMaxNameBytes);
    symbol->object = "[jit]";
    symbol->offset = address;
  }
  if (jit_names_.size() >= options_.names) jit_names_.clear();
  return jit_names_[{map, address}] = symbol;
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
