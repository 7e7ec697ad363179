// The ledger of one family over repeated looks: each look finds the breaks since the look before. Reads only what has
// changed. Not thread-safe.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <utility>
#include <variant>

#include "collectors/base/steps.h"
#include "collectors/memory/family/lineage.h"
#include "collectors/memory/process/process_table.h"
#include "collectors/memory/scan/scanner.h"

namespace cow::explain {

// A process, its family and the member whose address space it has; null if no family has it.
struct FamilyMember {
  memory::Family* family = nullptr;
  memory::Member* member = nullptr;
};
FamilyMember FindMember(const memory::Lineage& families, pid_t pid);

// Scans the family; `add` takes each report, and steps that it has an overload for. False if `may_go_on` ended it.
template <class Add>
bool ScanWhole(memory::Scanner& scanner, memory::Family& family, const memory::PassOptions& options,
               const MayGoOn& may_go_on, Add&& add) {
  const auto scan = scanner.Begin(family, options);
  const auto take = [&add](const auto& step) {
    if constexpr (requires { add(step); }) add(step);
  };
  while (!scan->done()) {
    if (!may_go_on()) {
      scan->GiveUp();
      return false;
    }
    const memory::ScanStep step = scan->Next(scanner.worker(), may_go_on);
    std::visit(take, step);
  }
  return true;
}

class FamilyHistory {
 public:
  // `scanner` must outlive this object.
  explicit FamilyHistory(memory::Scanner& scanner)
      : scanner_(scanner), families_(scanner.geometry(), scanner.zero_frame()) {}

  // Call it after each update of the table, then Scan.
  void Update(const memory::ProcessTable& table) { families_.Update(table, scanner_.probe()); }
  FamilyMember Find(pid_t pid) const { return FindMember(families_, pid); }

  // Looks at the family. False if `may_go_on` ended the look.
  template <class Add>
  bool Scan(memory::Family& family, const MayGoOn& may_go_on, Add&& add) {
    memory::PassOptions pass;
    pass.full_every = kFullEvery;
    if (!ScanWhole(scanner_, family, pass, may_go_on, std::forward<Add>(add))) return false;
    Settle();
    return true;
  }

 private:
  // Members without a change signal are read this often.
  static constexpr std::chrono::minutes kFullEvery{10};

  // Removes ended members.
  void Settle();

  memory::Scanner& scanner_;
  memory::Lineage families_;
};

}  // namespace cow::explain
