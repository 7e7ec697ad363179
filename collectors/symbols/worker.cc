#include "collectors/symbols/worker.h"

#include <cstring>
#include <exception>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "collectors/symbols/confinement.h"
#include "collectors/symbols/elf_symbols.h"
#include "collectors/symbols/messages.h"
#include "collectors/symbols/perf_map.h"
#include "collectors/symbols/unwinder.h"

namespace cow::symbols {
namespace {

using procfs::FileDescriptor;

class Worker {
 public:
  explicit Worker(FileDescriptor channel) : channel_(std::move(channel)) {}

  // Returns when the channel closes.
  void Serve() {
    if (!Answer({MessageType::kReady, NameStatus::kNoFile, 0, 0}, {})) return;
    Message message;
    while (Receive(channel_, message, kNoDeadline) == Transfer::kDone && Take(message)) {
    }
  }

 private:
  struct File {
    FileDescriptor descriptor;
    std::unique_ptr<ElfSymbols> symbols;  // null: no ELF file
    bool is_read = false;
  };

  bool Take(Message& message) {
    const MessageHead& head = message.head;
    switch (head.type) {
      case MessageType::kFile:
        files_[head.number] = {std::move(message.descriptor), nullptr, false};
        return true;
      case MessageType::kMap:
        maps_.insert_or_assign(head.number, PerfMap::Read(message.descriptor));
        return true;
      case MessageType::kForget:
        unwinders_.clear();
        files_.erase(head.number);
        return true;
      case MessageType::kForgetMap:
        maps_.erase(head.number);
        return true;
      case MessageType::kName:
        return Name(head);
      case MessageType::kMapName:
        return MapName(head);
      case MessageType::kLayout:
        SetLayout(head.number, message.bytes);
        return true;
      case MessageType::kForgetLayout:
        unwinders_.erase(head.number);
        return true;
      case MessageType::kUnwind:
        return Unwind(head, message.bytes);
      default:
        return false;
    }
  }

  ElfSymbols* Symbols(uint64_t number) {
    const auto found = files_.find(number);
    if (found == files_.end()) return nullptr;
    File& file = found->second;
    if (!std::exchange(file.is_read, true)) {
      file.symbols = ElfSymbols::Read(
          file.descriptor, [this, number](std::string_view build_id) { return WishDebugFile(number, build_id); });
    }
    return file.symbols.get();
  }

  FileDescriptor WishDebugFile(uint64_t number, std::string_view build_id) {
    if (!Answer({MessageType::kWantDebugFile, NameStatus::kNoFile, number, 0}, build_id)) return {};
    Message message;
    if (Receive(channel_, message, kNoDeadline) != Transfer::kDone) return {};
    return message.head.type == MessageType::kDebugFile ? std::move(message.descriptor) : FileDescriptor();
  }

  bool Name(const MessageHead& request) {
    MessageHead answer{MessageType::kNamed, NameStatus::kNoFile, 0, 0};
    ElfSymbols* symbols = Symbols(request.number);
    if (symbols == nullptr) return Answer(answer, {});
    std::string bytes = symbols->build_id();
    answer.number = bytes.size();
    answer.status = NameStatus::kNoAddress;
    if (const auto address = symbols->Address(request.value)) {
      answer.value = *address;
      const auto function = symbols->Function(*address);
      answer.status = function ? NameStatus::kFunction : NameStatus::kNoFunction;
      if (function) bytes += *function;
    }
    return Answer(answer, bytes);
  }

  bool MapName(const MessageHead& request) {
    MessageHead answer{MessageType::kNamed, NameStatus::kNoFile, 0, request.value};
    const auto map = maps_.find(request.number);
    if (map == maps_.end()) return Answer(answer, {});
    const auto function = map->second.Find(request.value);
    answer.status = function ? NameStatus::kFunction : NameStatus::kNoFunction;
    return Answer(answer, function.value_or(std::string_view()));
  }

  void SetLayout(uint64_t number, std::string_view bytes) {
    std::vector<Unwinder::Module> modules;
    for (; bytes.size() >= sizeof(LayoutEntry); bytes.remove_prefix(sizeof(LayoutEntry))) {
      LayoutEntry entry;
      std::memcpy(&entry, bytes.data(), sizeof(entry));
      const ElfSymbols* symbols = Symbols(entry.file);
      if (symbols == nullptr) continue;
      modules.push_back({symbols, &files_[entry.file].descriptor, entry.start, entry.end, entry.file_offset});
    }
    unwinders_[number] = std::make_unique<Unwinder>(std::move(modules));
  }

  bool Unwind(const MessageHead& request, std::string_view bytes) {
    std::vector<uint64_t> frames;
    const auto unwinder = unwinders_.find(request.number);
    if (unwinder != unwinders_.end() && request.value <= bytes.size() / sizeof(uint64_t)) {
      std::vector<uint64_t> registers(request.value);
      const size_t size = registers.size() * sizeof(uint64_t);
      if (!registers.empty()) std::memcpy(registers.data(), bytes.data(), size);
      frames = unwinder->second->Unwind(registers, bytes.substr(size));
    }
    return Answer({MessageType::kFrames, NameStatus::kNoFile, 0, 0},
                  {reinterpret_cast<const char*>(frames.data()), frames.size() * sizeof(uint64_t)});
  }

  bool Answer(const MessageHead& head, std::string_view bytes) {
    return Send(channel_, head, bytes, -1, kNoDeadline) == Transfer::kDone;
  }

  FileDescriptor channel_;
  std::map<uint64_t, File> files_;
  std::map<uint64_t, PerfMap> maps_;
  std::map<uint64_t, std::unique_ptr<Unwinder>> unwinders_;  // by layout; they refer to files_
};

}  // namespace

int RunWorker(FileDescriptor channel) {
  try {
    ConfineWorker();
    Worker(std::move(channel)).Serve();
    return 0;
  } catch (const std::exception&) {  // the Symbolizer sees that the channel is closed
    return 1;
  }
}

}  // namespace cow::symbols
