// Adds breaks to the members that made them and to their children. Keeps a buffer: one thread at a time.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "collectors/memory/family/family.h"
#include "collectors/memory/ledger/judgement.h"

namespace cow::memory {

class BreakAccount {
 public:
  // `count_breaks`: add to Member::break_pages too.
  void Add(const Family& family, const Judgement& judgement, bool count_breaks);

 private:
  void AddOfOnePage(const Family& family, std::span<const Verdict> verdicts, std::span<const MemberIndex> holders,
                    bool count_breaks);

  std::vector<uint64_t> broken_by_;  // by slot: 0 between two pages
};

}  // namespace cow::memory
