// An ELF file of another user, with the code that only the confined process runs: names, and unwinding with the file's
// call frame information. The last 512 bytes also serve as a stack.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <numeric>
#include <string>
#include <string_view>
#include <vector>

#include "collectors/symbols/elf_symbols.h"
#include "collectors/symbols/unwinder.h"
#include "tests/fuzz/bytes.h"
#include "tests/fuzz/check.h"

using cow::fuzz::Check;
namespace procfs = cow::procfs;
namespace symbols = cow::symbols;

namespace {

constexpr uint64_t kStart = 0x400000;
constexpr size_t kStackBytes = 512;
#if defined(__x86_64__)
constexpr size_t kRegisters = 17;
constexpr size_t kStackPointer = 7;
constexpr size_t kProgramCounter = 8;
#else
constexpr size_t kRegisters = 33;
constexpr size_t kStackPointer = 31;
constexpr size_t kProgramCounter = 32;
#endif

procfs::FileDescriptor FileOf(std::string_view bytes) {
  procfs::FileDescriptor file(memfd_create("elf", MFD_CLOEXEC));
  Check(write(file.get(), bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()), "the file is written");
  return file;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes = cow::fuzz::Text(data, size);
  const procfs::FileDescriptor file = FileOf(bytes);
  // The file is its own debug file.
  const auto elf = symbols::ElfSymbols::Read(file, [bytes](std::string_view) { return FileOf(bytes); });
  if (elf == nullptr) return 0;
  Check(elf->build_id().size() <= 64, "the build ID is bounded");
  for (uint64_t offset = 0; offset < size; offset += 16) {
    const auto address = elf->Address(offset);
    if (!address) continue;
    const auto function = elf->Function(*address);
    Check(!function || function->size() <= symbols::ElfSymbols::kMaxNameBytes, "the name is bounded");
  }
  std::vector<uint64_t> registers(kRegisters);
  std::iota(registers.begin(), registers.end(), kStart);
  registers[kStackPointer] = 0x7fff0000;
  const std::string_view stack = bytes.substr(size - std::min(size, kStackBytes));
  symbols::Unwinder unwinder({{elf.get(), &file, kStart, kStart + size, 0}});
  for (const uint64_t place : {uint64_t{0}, uint64_t{size / 2}, uint64_t{size}}) {
    registers[kProgramCounter] = kStart + place;
    const size_t frames = unwinder.Unwind(registers, stack).size();
    Check(frames > 0 && frames <= symbols::Unwinder::kMaxFrames, "the frames are bounded");
  }
  return 0;
}
