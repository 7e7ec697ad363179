// Names code addresses: functions of ELF files, of JITs that write /tmp/perf-PID.map, and of the kernel.
//
// Processes control the files that they map, so a process without rights parses them (keeper.h, confinement.h). A file
// that crashes it or takes too long has no names; the next file gets a new process. Everything that comes back is
// bounded and made printable. What is not certain has no name: an address outside of every symbol's size, a symbol
// without a size, a file that is not the mapped one any more.
//
// A fault in the kernel gets the name of the kernel's function, not of the system call. The innermost frame of the
// user's call chain tells that: it is the library's function, such as read.
//
// Names are kept by file (device, inode, size and time of change), not by build ID: any process can claim the build ID
// of another's library, and would then name that library's functions. Use from one thread.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "collectors/procfs/kallsyms.h"
#include "collectors/symbols/code_maps.h"
#include "collectors/symbols/keeper.h"
#include "collectors/symbols/messages.h"

namespace cow::symbols {

struct Symbol {
  enum class Kind { kUser, kKernel, kJit, kUnknown };

  Kind kind = Kind::kUnknown;
  std::optional<std::string> function;  // demangled, UTF-8 without control characters, at most 1 KiB
  std::string object;   // path as the process sees it, "[kernel]", "[MODULE]" of the kernel, "[jit]", "[unknown]"
  uint64_t offset = 0;  // of the code in the object, as addr2line takes it; of a JIT and the kernel, its address
  bool offset_is_file = false;  // the object could not be parsed: `offset` counts from the begin of the file
  std::string build_id;         // hexadecimal; empty if unknown

  // NOLINTNEXTLINE(modernize-use-nullptr): mistaken by clang-tidy 14
  auto operator<=>(const Symbol&) const = default;
};

std::string Hexadecimal(std::string_view bytes);

class Symbolizer {
 public:
  struct Options {
    std::chrono::milliseconds patience{5000};  // for one answer; large debug files take a second
    size_t files = 256;                        // open in the parsing process
    size_t names = size_t{1} << 16U;           // kept
    // Lost processes: so many at once, and one more each minute. Then code has no names until the next minute.
    size_t restarts = 16;
    std::chrono::milliseconds reread_after{1000};  // a JIT's map that grew
  };
  struct Counts {
    uint64_t hopeless_files = 0;  // crashed the parsing process, or took too long
    uint64_t restarts = 0;        // processes lost
    uint64_t unanswered = 0;      // questions without an answer, because no process could be started or was left
  };

  // Starts the processes: see keeper.h for when. Throws std::system_error.
  Symbolizer() : Symbolizer(Options()) {}
  explicit Symbolizer(Options options, procfs::Root root = procfs::Root());

  Symbol Resolve(const CodeLocation& location);

  // Unwinds a stack by DWARF. Registers and stack as in unwinder.h. Returns the program counter, then the return
  // addresses, innermost first; only the program counter if nothing is known. A call is before its return address:
  // locate `address - 1`.
  std::vector<uint64_t> Unwind(const CodeMaps& maps, pid_t pid, std::span<const uint64_t> registers,
                               std::string_view stack);

  // Reads the kernel's names now instead of at the first use, while this process may.
  Result<void> ReadKernelSymbols();

  const Counts& counts() const { return counts_; }
  pid_t keeper() const { return keeper_.pid(); }

 private:
  struct PerfMapFile {
    uint64_t number = 0;  // changes with the text; 0: the process has no map
    procfs::FileIdentity identity;
    std::chrono::steady_clock::time_point read_at;
  };
  using Place = std::pair<uint64_t, uint64_t>;  // the number of a file or map, and where in it
  struct Layout {
    uint64_t number = 0;
    CodeMaps::Mappings mappings;
  };

  // Sends what a question needs. Returns the question, or nothing if there is nothing to ask or if sending failed.
  using Prepare = std::function<std::optional<MessageHead>()>;

  Symbol ResolveKernel(uint64_t address);
  Symbol ResolveFile(const CodeLocation& location);
  static void TakeName(const Message& answer, const CodeFile& file, Symbol& symbol);
  std::optional<Symbol> ResolveJit(const CodeLocation& location);
  std::optional<Symbol> ResolveJitOf(pid_t pid, uint64_t address);
  std::optional<Message> AskAbout(const std::shared_ptr<const CodeFile>& file, uint64_t offset);
  // Finds files that crash the process before a layout has them among others.
  void TryFiles(const CodeMaps::Mappings& mappings);

  // Starts a process if none runs.
  bool Start();
  void Lose();
  // Prepares and asks; does both again with a new process if the first one dies. Sets `is_fatal` if no process gave an
  // answer in time.
  std::optional<Message> Ask(const Prepare& prepare, std::string_view bytes, MessageType expected, bool& is_fatal);
  Transfer Exchange(const MessageHead& question, std::string_view bytes, MessageType expected, Message& answer);
  bool AnswerWish(const Message& wish);
  procfs::FileDescriptor FindDebugFile(const CodeFile& file, std::string_view build_id) const;
  bool SendFile(const std::shared_ptr<const CodeFile>& file);
  std::optional<uint64_t> SendLayout(const CodeMaps::Mappings& mappings);
  // Looks for the map that a process has written, and sends it unless it is there. Returns its number.
  std::optional<uint64_t> SendPerfMap(pid_t pid);
  bool ForgetPerfMap(PerfMapFile& map);
  // Loses the process if it fails.
  bool Tell(const MessageHead& head, std::string_view bytes = {}, int descriptor = -1);

  Options options_;
  procfs::Root root_;
  Keeper keeper_;
  procfs::FileDescriptor channel_;                    // to the parsing process
  std::list<std::shared_ptr<const CodeFile>> files_;  // that it has; the last used first
  std::list<Layout> layouts_;                         // likewise
  std::map<pid_t, PerfMapFile> perf_maps_;            // likewise, by process
  std::set<uint64_t> hopeless_;                       // numbers of files
  std::set<uint64_t> tried_;                          // likewise; those that did not end a process
  std::set<CodeMaps::Mappings> hopeless_layouts_;
  std::set<uint64_t> no_elf_;                         // likewise
  std::map<Place, Symbol> names_;                     // of files
  std::map<Place, std::optional<Symbol>> jit_names_;  // of maps
  std::optional<Result<procfs::KernelSymbols>> kernel_;
  uint64_t next_number_ = 1;
  size_t restarts_left_;
  std::chrono::steady_clock::time_point refilled_at_ = std::chrono::steady_clock::now();
  Counts counts_;
};

}  // namespace cow::symbols
