// Members of a family whose windows were not all read yet: what the kernel says of them, less what was shown.
//
// A child counts from the first pass after its fork. Until its windows are read it is taken to share what its parent
// has there, as it does after a fork. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "collectors/collector.h"
#include "collectors/memory/family/family.h"
#include "collectors/memory/scan/report.h"
#include "collectors/procfs/system.h"

namespace cow::collectors {

class UnreadMembers {
 public:
  // The members as of now. `alone_before`: the one that there was is read as a whole, and its sums fade.
  void Update(const memory::Family& family, const procfs::PageGeometry& geometry, bool alone_before);
  void OnWindow(const memory::WindowReport& report);
  // A scan is over: all members but those that wait for the next one were read.
  void OnScanEnd(const memory::Family& family, bool alone);
  void Clear() { members_.clear(); }

  // One for each member that is not read whole; none of one whose sums fade.
  std::vector<UnreadMember> List() const;
  // What is not read of the member whose sums fade, of so many pages when it began: 0 to 1.
  double FadingShare(uint64_t fading_pages) const;
  bool empty() const { return members_.empty(); }

 private:
  struct Known {
    memory::MemberIndex slot;
    memory::MemberIndex parent;
    bool is_root = false;
    bool read = false;   // its windows were
    bool fades = false;  // it was read as a whole before
    UnreadMember all;    // by the kernel's sums
    UnreadMember shown;  // in windows
    uint64_t shown_present = 0;
  };

  const Known* Find(memory::MemberIndex slot) const;

  std::vector<Known> members_;
};

}  // namespace cow::collectors
