#include "collectors/symbols/elf_symbols.h"

#include <cxxabi.h>
#include <elfutils/libdwelf.h>
#include <elfutils/libdwfl.h>
#include <fcntl.h>
#include <gelf.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <tuple>
#include <utility>

namespace cow::symbols {
namespace {

constexpr size_t kMaxSymbols = size_t{4} << 20U;

std::string BuildIdOf(Elf* elf) {
  const void* bits = nullptr;
  const ssize_t bytes = dwelf_elf_gnu_build_id(elf, &bits);
  constexpr ssize_t kMaxBytes = 64;
  if (bytes <= 0 || bytes > kMaxBytes) return {};
  return {static_cast<const char*>(bits), static_cast<size_t>(bytes)};
}

// libdwfl would otherwise look for files by itself.
int FindNoElf(Dwfl_Module* /*module*/, void** /*data*/, const char* /*name*/, Dwarf_Addr /*base*/, char** /*file*/,
              Elf** /*elf*/) {
  return -1;
}

// The module's data is the FindDebugFile of its ElfSymbols.
int FindDebug(Dwfl_Module* module, void** data, const char* /*name*/, Dwarf_Addr /*base*/, const char* /*file*/,
              const char* /*link*/, GElf_Word /*crc*/, char** /*found*/) {
  const auto* find = static_cast<const FindDebugFile*>(*data);
  GElf_Addr bias = 0;
  Elf* main = dwfl_module_getelf(module, &bias);
  if (find == nullptr || !*find || main == nullptr) return -1;
  const std::string build_id = BuildIdOf(main);
  if (build_id.empty()) return -1;
  const procfs::FileDescriptor file = (*find)(build_id);
  if (!file.valid()) return -1;
  Elf* elf = elf_begin(file.get(), ELF_C_READ_MMAP, nullptr);
  const bool is_right = elf != nullptr && BuildIdOf(elf) == build_id;
  elf_end(elf);
  return is_right ? fcntl(file.get(), F_DUPFD_CLOEXEC, 0) : -1;
}

constexpr Dwfl_Callbacks kCallbacks{&FindNoElf, &FindDebug, nullptr, nullptr};

// Prefers names that a programmer wrote to the aliases of a library: global, weak, local; then fewer underscores.
uint8_t RankOf(const GElf_Sym& symbol, const char* name) {
  const int binding = GELF_ST_BIND(symbol.st_info);
  const unsigned place = binding == STB_GLOBAL ? 0 : binding == STB_WEAK ? 1 : 2;
  const size_t underscores = std::min<size_t>(std::strspn(name, "_"), 15);
  // An underscore more weighs more than a weak binding: write before __write.
  return static_cast<uint8_t>(underscores * 3 + place);
}

// Removes what compilers append to the name of a function that they copy, split or make local: "f.part.0.cold".
void RemoveCloneSuffix(std::string& name) {
  constexpr std::array<std::string_view, 6> kSuffixes{".lto_priv.", ".constprop.", ".isra.",
                                                      ".part.",     ".cold",       ".llvm."};
  size_t end = name.size();
  for (const std::string_view suffix : kSuffixes) {
    const size_t place = name.find(suffix, 1);
    const size_t behind = place + suffix.size();
    if (place >= end) continue;
    const bool is_whole = suffix.back() == '.' || behind == name.size() || name[behind] == '.';
    if (is_whole) end = place;
  }
  name.resize(end);
}

std::string SourceName(const char* name) {
  std::string plain(name, strnlen(name, ElfSymbols::kMaxNameBytes));
  RemoveCloneSuffix(plain);
  if (!plain.starts_with("_Z")) return plain;
  int status = 0;
  char* readable = abi::__cxa_demangle(plain.c_str(), nullptr, nullptr, &status);
  if (status == 0 && readable != nullptr) plain.assign(readable, strnlen(readable, ElfSymbols::kMaxNameBytes));
  std::free(readable);  // NOLINT(cppcoreguidelines-no-malloc): of the C interface
  return plain;
}

}  // namespace

void SessionEnd::operator()(Dwfl* session) const { dwfl_end(session); }

Session NewSession() { return Session(dwfl_begin(&kCallbacks)); }

ElfSymbols::ElfSymbols(FindDebugFile find) : find_(std::move(find)) {}

ElfSymbols::~ElfSymbols() = default;

std::unique_ptr<ElfSymbols> ElfSymbols::Read(const procfs::FileDescriptor& file, FindDebugFile find) {
  std::unique_ptr<ElfSymbols> symbols(new ElfSymbols(std::move(find)));
  if (!symbols->Open(file)) return nullptr;
  return symbols;
}

bool ElfSymbols::Open(const procfs::FileDescriptor& file) {
  file_ = file.get();
  elf_version(EV_CURRENT);
  // Looks at the type first: libdwfl would unpack archives and place relocatable objects.
  Elf* elf = elf_begin(file_, ELF_C_READ_MMAP, nullptr);
  GElf_Ehdr header{};
  const bool is_code = elf != nullptr && elf_kind(elf) == ELF_K_ELF && gelf_getehdr(elf, &header) != nullptr &&
                       (header.e_type == ET_EXEC || header.e_type == ET_DYN);
  size_t headers = 0;
  if (is_code && elf_getphdrnum(elf, &headers) == 0) {
    for (size_t i = 0; i < headers; ++i) {
      GElf_Phdr segment{};
      if (gelf_getphdr(elf, static_cast<int>(i), &segment) == nullptr) break;
      if (segment.p_type != PT_LOAD || (segment.p_flags & PF_X) == 0) continue;
      segments_.push_back({segment.p_offset, segment.p_filesz, segment.p_vaddr});
    }
    build_id_ = BuildIdOf(elf);
  }
  elf_end(elf);
  if (!is_code || segments_.empty()) return false;
  session_ = NewSession();
  if (session_ == nullptr) return false;
  dwfl_report_begin(session_.get());
  const bool reported = Report(session_.get(), 0);
  dwfl_report_end(session_.get(), nullptr, nullptr);
  if (!reported) return false;
  const auto take = [](Dwfl_Module* module, void** /*data*/, const char* /*name*/, Dwarf_Addr /*base*/, void* result) {
    *static_cast<Dwfl_Module**>(result) = module;
    return static_cast<int>(DWARF_CB_ABORT);
  };
  dwfl_getmodules(session_.get(), take, &module_, 0);
  return module_ != nullptr;
}

bool ElfSymbols::Report(Dwfl* session, uint64_t bias) const {
  const int copy = fcntl(file_, F_DUPFD_CLOEXEC, 0);
  if (copy < 0) return false;
  // A module's name is unique in its session.
  const std::string name = "object " + std::to_string(file_) + " " + std::to_string(bias);
  Dwfl_Module* module = dwfl_report_elf(session, name.c_str(), name.c_str(), copy, bias, true);
  if (module == nullptr) {
    close(copy);
    return false;
  }
  void** data = nullptr;
  dwfl_module_info(module, &data, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr);
  *data = const_cast<FindDebugFile*>(&find_);  // NOLINT(cppcoreguidelines-pro-type-const-cast): of the C interface
  return true;
}

std::optional<uint64_t> ElfSymbols::Address(uint64_t file_offset) const {
  for (const Segment& segment : segments_) {
    if (file_offset >= segment.offset && file_offset - segment.offset < segment.bytes) {
      return file_offset - segment.offset + segment.address;
    }
  }
  return std::nullopt;
}

std::optional<uint64_t> ElfSymbols::Bias(uint64_t start, uint64_t file_offset, uint64_t bytes) const {
  for (const Segment& segment : segments_) {
    const bool overlaps = segment.offset < file_offset + bytes && file_offset < segment.offset + segment.bytes;
    if (overlaps) return start - file_offset + segment.offset - segment.address;
  }
  return std::nullopt;
}

void ElfSymbols::ReadSymbols() {
  const size_t count = static_cast<size_t>(std::max(dwfl_module_getsymtab(module_), 0));
  for (size_t i = 0; i < count && symbols_.size() < kMaxSymbols; ++i) {
    GElf_Sym symbol{};
    GElf_Addr address = 0;
    GElf_Word section = SHN_UNDEF;
    const char* name =
        dwfl_module_getsym_info(module_, static_cast<int>(i), &symbol, &address, &section, nullptr, nullptr);
    if (name == nullptr || *name == '\0' || section == SHN_UNDEF || symbol.st_size == 0) continue;
    // Assemblers leave functions without a type. The symbol of an indirect function names its resolver.
    const int type = GELF_ST_TYPE(symbol.st_info);
    if (type != STT_FUNC && type != STT_NOTYPE) continue;
    const uint64_t end = address + symbol.st_size;
    if (end < address) continue;
    symbols_.push_back({address, end, end, name, RankOf(symbol, name)});
  }
  const auto key = [](const Symbol& each) { return std::make_tuple(each.start, ~each.end, ~each.rank); };
  std::sort(symbols_.begin(), symbols_.end(), [&key](const Symbol& a, const Symbol& b) {
    // The last of those that begin at one address is the smallest, and of these the most public.
    return std::make_tuple(key(a), std::string_view(b.name)) < std::make_tuple(key(b), std::string_view(a.name));
  });
  uint64_t highest = 0;
  for (Symbol& each : symbols_) each.highest_end = highest = std::max(highest, each.end);
}

std::optional<std::string> ElfSymbols::Function(uint64_t address) {
  if (!std::exchange(has_symbols_, true)) ReadSymbols();
  auto above = std::upper_bound(symbols_.begin(), symbols_.end(), address,
                                [](uint64_t value, const Symbol& each) { return value < each.start; });
  while (above != symbols_.begin()) {
    const Symbol& symbol = *--above;
    if (address < symbol.end) return SourceName(symbol.name);
    if (address >= symbol.highest_end) break;
  }
  return std::nullopt;
}

}  // namespace cow::symbols
