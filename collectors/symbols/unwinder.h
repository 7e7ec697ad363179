// Unwinds a call stack by DWARF's call frame information, through libdwfl, from a copy of registers and stack. Reads
// hostile files, so use it only in the confined process (and in tests). x86-64 and arm64, of the architecture that this
// program is built for. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "collectors/procfs/file_descriptor.h"
#include "collectors/symbols/elf_symbols.h"

namespace cow::symbols {

class Unwinder {
 public:
  static constexpr size_t kMaxFrames = 128;

  // A file mapped at [start, end). Files must outlive the Unwinder and be open.
  struct Module {
    const ElfSymbols* symbols = nullptr;
    const procfs::FileDescriptor* file = nullptr;
    uint64_t start = 0;
    uint64_t end = 0;
    uint64_t file_offset = 0;
  };

  explicit Unwinder(std::vector<Module> modules);
  ~Unwinder();
  Unwinder(const Unwinder&) = delete;
  Unwinder& operator=(const Unwinder&) = delete;

  // Registers in the order of the kernel's samples: x86-64 ax, bx, cx, dx, si, di, bp, sp, ip, r8 to r15; arm64 x0 to
  // x29, lr, sp, pc. `stack` begins at the stack pointer. Returns the program counter, then the return addresses,
  // innermost first. Stops at the first frame without information, and where the copy ends. Empty if there is the wrong
  // number of registers.
  std::vector<uint64_t> Unwind(std::span<const uint64_t> registers, std::string_view stack);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace cow::symbols
