// Reads /proc/kallsyms, the names of the kernel's code addresses. World-readable, but all addresses are 0 for readers
// that kptr_restrict keeps from them (without CAP_SYSLOG or CAP_PERFMON by default). Reading takes about 80 ms, once;
// the names take 6 to 10 MB.
//
// A KernelSymbols is immutable; use it in any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "collectors/base/result.h"
#include "collectors/procfs/root.h"

namespace cow::procfs {

class KernelSymbols {
 public:
  struct Name {
    std::string function;
    std::string module;  // empty: the kernel itself
  };

  // kDenied: the addresses are hidden.
  static Result<KernelSymbols> Read(const Root& root);

  // The function at `address`. A function ends where the next symbol of its module begins, as in the kernel's own
  // traces. Empty if `address` is below the first or behind the last symbol of its module.
  std::optional<Name> Find(uint64_t address) const;

 private:
  struct Entry {
    uint64_t address;
    uint32_t name;  // where it begins in names_
    uint16_t length;
    uint16_t module;  // index in modules_
  };

  std::string names_;
  std::vector<std::string> modules_;
  std::vector<Entry> entries_;  // by address
};

}  // namespace cow::procfs
