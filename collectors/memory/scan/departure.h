// Reports the memory that leaves the sums when members of a family end. Uses the ledger and the latest looks, so it
// reads no file. The next scan judges what the end means for shared pages.
//
// Costs a few microseconds per window that the members mapped. Not thread-safe.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "collectors/base/steps.h"
#include "collectors/memory/family/family.h"
#include "collectors/memory/ledger/member_index.h"
#include "collectors/memory/read/host.h"
#include "collectors/memory/scan/report.h"

namespace cow::memory {

class Departure {
 public:
  // `gone`: members in Family::ended whose departure was not reported before. No scan of the family may make steps
  // while this object is in use.
  Departure(const Host& host, Family& family, std::span<Member* const> gone);

  // Returns the next window with a look at one of them, and what leaves it: their pages, their exposure, and survivors'
  // pages that become private. Forgets their looks in this window. Empty once done(), or if `may_go_on`, asked before
  // each window, returns false. If this object is dropped before it is done, another Departure continues with the rest.
  std::optional<WindowReport> Next(const MayGoOn& may_go_on);
  bool done() const { return next_window_ == windows_.size(); }

 private:
  bool Describe(WindowIndex window);
  bool BuildMembers(WindowIndex window);

  const Host& host_;
  Family& family_;
  std::span<Member* const> gone_;
  std::vector<WindowIndex> windows_;
  size_t next_window_ = 0;
  std::vector<MemberIndex> gone_slots_;
  MemberSet gone_set_;  // the same
  std::vector<MemberIndex> remaining_;
  DepartedSharing sharing_;
  WindowSharing left_;
  Judgement judgement_;
  std::vector<std::vector<Segment>> segments_;
  Segment survivors_;
  std::vector<MemberWindow> members_;
};

}  // namespace cow::memory
