// Parses a map of a JIT: /tmp/perf-PID.map, lines of "START SIZE NAME" with hexadecimal numbers, as tools/perf/
// Documentation/jit-interface.txt of the kernel describes it. The process that writes it may be hostile. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "collectors/procfs/file_descriptor.h"

namespace cow::symbols {

class PerfMap {
 public:
  static constexpr size_t kMaxBytes = size_t{64} << 20U;  // of the text; the rest is ignored
  static constexpr size_t kMaxNameBytes = 1024;           // kept of a name

  static PerfMap Parse(std::string_view text);
  // Parses up to kMaxBytes of a file.
  static PerfMap Read(const procfs::FileDescriptor& file);

  // The function that contains the address. Where several do, the one that was written last: a JIT reuses memory.
  std::optional<std::string_view> Find(uint64_t address) const;
  size_t size() const { return functions_.size(); }

 private:
  struct Function {
    uint64_t end;
    size_t name;  // where it begins in text_
    size_t name_bytes;
  };

  void TakeLine(std::string_view line);

  std::string text_;
  std::map<uint64_t, Function> functions_;  // by start; they never overlap
};

}  // namespace cow::symbols
