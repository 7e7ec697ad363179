// The functions of one ELF file, through libdwfl: .symtab, .dynsym, .gnu_debugdata, and a separate debug file.
//
// The file's owner may be hostile: use this only in the confined process (and in tests), where a crash or an endless
// loop costs nothing but the names of this file. The file must stay unchanged while the object lives; a file that is
// truncated ends the process with SIGBUS. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "collectors/procfs/file_descriptor.h"

struct Dwfl;
struct Dwfl_Module;

namespace cow::symbols {

// Looks for the separate debug file with a raw build ID. Returns an invalid descriptor if there is none.
using FindDebugFile = std::function<procfs::FileDescriptor(std::string_view build_id)>;

struct SessionEnd {
  void operator()(Dwfl* session) const;
};
using Session = std::unique_ptr<Dwfl, SessionEnd>;

// A session of libdwfl that opens no files by itself. Only ElfSymbols::Report adds modules to it. Null: no memory.
Session NewSession();

class ElfSymbols {
 public:
  // Names are cut after this, before and after they are demangled.
  static constexpr size_t kMaxNameBytes = 1024;

  // Null: the file is neither an executable nor a shared library, or is malformed. `find` may be called later too.
  static std::unique_ptr<ElfSymbols> Read(const procfs::FileDescriptor& file, FindDebugFile find);
  ~ElfSymbols();
  ElfSymbols(const ElfSymbols&) = delete;
  ElfSymbols& operator=(const ElfSymbols&) = delete;

  // Raw; empty if it has none.
  const std::string& build_id() const { return build_id_; }

  // The virtual address, as in the file's program headers, of the code at an offset in the file. Empty if no executable
  // segment has that offset.
  std::optional<uint64_t> Address(uint64_t file_offset) const;

  // What to add to the file's virtual addresses where `bytes` from `file_offset` are mapped at `start`.
  std::optional<uint64_t> Bias(uint64_t start, uint64_t file_offset, uint64_t bytes) const;

  // The function that contains a virtual address, demangled and without the suffixes of compilers (".cold"). Trusts
  // sizes: code between functions, and symbols without a size, have no name. The innermost function if they overlap; of
  // several names of one function the most public.
  std::optional<std::string> Function(uint64_t address);

  // Adds the file to another session, where it is mapped with `bias`. Returns false if libdwfl refuses.
  bool Report(Dwfl* session, uint64_t bias) const;

 private:
  struct Segment {
    uint64_t offset;
    uint64_t bytes;
    uint64_t address;
  };
  struct Symbol {
    uint64_t start;
    uint64_t end;
    uint64_t highest_end;  // of this symbol and all before it
    const char* name;      // in the mapped file
    uint8_t rank;          // the smallest is the most public
  };

  explicit ElfSymbols(FindDebugFile find);
  bool Open(const procfs::FileDescriptor& file);
  void ReadSymbols();

  FindDebugFile find_;
  int file_ = -1;
  Session session_;
  Dwfl_Module* module_ = nullptr;
  std::string build_id_;
  std::vector<Segment> segments_;  // executable ones
  std::vector<Symbol> symbols_;    // by start
  bool has_symbols_ = false;       // they are read on the first use
};

}  // namespace cow::symbols
