// Estimates the unread memory of members whose first look is not complete: the kernel's sums minus the windows read.
//
// A child counts from the first pass after its fork. Its unread memory is assumed to be shared with its parent, as it
// is after a fork. Not thread-safe.
#pragma once

#include <cstdint>
#include <vector>

#include "collectors/collector.h"
#include "collectors/memory/family/family.h"
#include "collectors/memory/scan/report.h"
#include "collectors/procfs/system.h"

namespace cow::collectors {

class UnreadMembers {
 public:
  // Updates the list of members. `alone_before`: the root had no relatives before, so its old sums fade.
  void Update(const memory::Family& family, const procfs::PageGeometry& geometry, bool alone_before);
  void OnWindow(const memory::WindowReport& report);
  // Call it at the end of a scan: it has read all members except those that wait for the next scan.
  void OnScanEnd(const memory::Family& family, bool alone);
  void Clear() { members_.clear(); }

  // Returns one entry per member with unread windows, except a member whose old sums fade.
  std::vector<UnreadMember> List() const;
  // Returns the unread share of the member whose old sums fade, 0 to 1. `fading_pages`: its pages at BeginToFade.
  double FadingShare(uint64_t fading_pages) const;
  bool empty() const { return members_.empty(); }

 private:
  struct Known {
    memory::MemberIndex slot;
    memory::MemberIndex parent;
    bool is_root = false;
    bool read = false;   // all its windows were read
    bool fades = false;  // had no relatives before, so its old sums fade
    UnreadMember all;    // by the kernel's sums
    UnreadMember shown;  // in windows that were read
    uint64_t shown_present = 0;
  };

  const Known* Find(memory::MemberIndex slot) const;

  std::vector<Known> members_;
};

}  // namespace cow::collectors
