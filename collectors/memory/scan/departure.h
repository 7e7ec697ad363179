// What leaves the sums when members of a family end, by what was known of them: before any page table is read again.
// What their end means for shared pages is judged when the windows are scanned.
//
// Costs a few microseconds per window that they mapped; reads no file. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "collectors/memory/family/family.h"
#include "collectors/memory/read/host.h"
#include "collectors/memory/scan/report.h"

namespace cow::memory {

class Departure {
 public:
  // `gone` are members in Family::ended, and the departure of none was reported before. No scan makes steps meanwhile.
  Departure(const Host& host, Family& family, std::span<Member* const> gone);

  // The next window that one of them was reported in, with what leaves it: their pages, the exposure that goes with
  // them, and survivors' pages that no process shares any more (which leave what is shared, and are private from now
  // on). Forgets their looks. Empty when there is no further one. Given up before, another departure goes on with the
  // rest.
  std::optional<WindowReport> Next();

 private:
  bool Describe(WindowIndex window);
  bool BuildMembers(WindowIndex window);

  const Host& host_;
  Family& family_;
  std::span<Member* const> gone_;
  std::vector<WindowIndex> windows_;
  size_t next_window_ = 0;
  std::vector<MemberIndex> gone_slots_;
  std::vector<MemberIndex> remaining_;
  DepartedSharing sharing_;
  WindowSharing left_;
  Judgement judgement_;
  std::vector<std::vector<Segment>> segments_;
  Segment survivors_;
  std::vector<MemberWindow> members_;
};

}  // namespace cow::memory
