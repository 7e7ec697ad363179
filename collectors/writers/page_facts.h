// What the latest look showed of pages that faults touch: their mapping, the zero page, and pages of private file
// mappings that the process has copied. It explains records that are no breaks.
//
// Memory: two bitmaps per window and member that has such pages. Pages are base pages. Not thread-safe.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "collectors/base/bitmap.h"
#include "collectors/base/page_numbers.h"
#include "collectors/memory/family/family.h"
#include "collectors/memory/read/mapping.h"
#include "collectors/memory/scan/report.h"
#include "collectors/procfs/system.h"
#include "collectors/writers/break_joiner.h"

namespace cow::writers {

class PageFacts {
 public:
  PageFacts(procfs::PageGeometry geometry, Pfn zero_frame) : geometry_(geometry), zero_frame_(zero_frame) {}

  // Takes the pages of a window that has changed, and the mappings of the members; those of ended members are kept.
  // Both are in force after Commit: until then faults are described by the look before.
  void Update(const memory::WindowReport& report);
  void Update(const memory::Family& family);
  void Commit();

  bool IsZero(pid_t pid, PageNumber page) const;
  // The page whose break or fault stands for this one: in hugetlbfs the first of the window, else the page itself.
  PageNumber Unit(pid_t pid, PageNumber page) const;
  Fresh Describe(const Fault& fault) const;

 private:
  struct Bits {
    WindowBitmap zero;
    WindowBitmap written;
  };

  const Bits* Find(pid_t pid, PageNumber page) const;
  const memory::Mapping* MappingOf(pid_t pid, PageNumber page) const;

  procfs::PageGeometry geometry_;
  Pfn zero_frame_;
  std::map<std::pair<pid_t, WindowIndex>, Bits> windows_;
  std::map<std::pair<pid_t, WindowIndex>, Bits> new_windows_;  // empty bits: remove the window
  std::map<pid_t, std::shared_ptr<const std::vector<memory::Mapping>>> mappings_;
  std::map<pid_t, std::shared_ptr<const std::vector<memory::Mapping>>> new_mappings_;
};

}  // namespace cow::writers
