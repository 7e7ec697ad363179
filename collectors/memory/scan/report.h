// The reports of a scan. Each report is a value; its pointers are valid until the scan's next step. Sums are in base
// pages.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <variant>

#include "collectors/memory/family/family.h"
#include "collectors/memory/family/looks.h"
#include "collectors/memory/ledger/ledger.h"
#include "collectors/memory/read/mapping.h"
#include "collectors/memory/read/page_table_reader.h"
#include "collectors/procfs/smaps.h"
#include "collectors/procfs/system.h"

namespace cow::memory {

// The part of a mapping that lies in one window.
struct Segment {
  const Mapping* mapping = nullptr;
  uint32_t first = 0;  // page within the window
  uint32_t pages = 0;
  SegmentTally tally;
};

struct MemberWindow {
  const Member* member = nullptr;
  std::span<const Segment> segments;
  uint64_t ksm_pages = 0;
  uint64_t maybe_ksm_pages = 0;  // shared by fork or merged by KSM: the kernel does not say which
  bool split = false;            // its huge page was split, and it broke a page here
};

// A window that has changed or is reported for the first time.
struct WindowReport {
  const Family* family = nullptr;
  WindowIndex window;
  procfs::PageGeometry geometry;
  std::chrono::system_clock::time_point read_at;  // not later than any of its pages was read
  std::span<const MemberWindow> members;          // those that map something here
  std::span<const Reading> readings;              // of all readable members, parallel to sharing->members
  const WindowSharing* sharing = nullptr;
  const Judgement* judgement = nullptr;
  bool frames_known = true;
  bool mapcounts_known = true;  // bit 56 is each page's own, and kpagecount
  bool alone = false;           // the family had one member when the scan began

  uint64_t PresentPages() const {
    uint64_t present = 0;
    for (const MemberWindow& member : members) {
      for (const Segment& segment : member.segments) present += segment.tally.Present();
    }
    return present;
  }
};

// Verdicts about moved pages. Any number of these reports follows the windows.
struct MovedReport {
  const Family* family = nullptr;
  const Judgement* judgement = nullptr;
};

// One member's anonymous memory over all its windows, in base pages.
struct MemberSums {
  uint64_t anon_pages = 0;    // present; the zero page is not in it
  uint64_t shared_pages = 0;  // the part that is shared with another member
  uint64_t ksm_pages = 0;     // the part that KSM merged or may have merged
};

// The contents of one member's smaps_rollup, which is also read if the page table is denied.
struct SmapsReading {
  enum class State { kNotNeeded, kRead, kTooLarge, kGone, kUnreadable };
  State state = State::kNotNeeded;
  procfs::SmapsRollup sums;  // of kRead
};

// The end of a completed scan of a family.
struct FamilyReport {
  const Family* family = nullptr;
  procfs::PageGeometry geometry;
  std::chrono::system_clock::time_point read_at;  // not later than any of its pages was read
  MovedSharing moved;
  Unwalked unwalked;
  std::array<bool, kModes> modes{};         // in use by its members
  bool frames_known = true;                 // false: only `unwalked` distinguishes zero pages
  bool mapcounts_known = true;              // bit 56 is each page's own, and kpagecount
  bool scan_known = true;                   // PAGEMAP_SCAN is there: huge_pmd is a count; else it is unknown
  std::span<const SmapsReading> smaps;      // of the members in their order
  std::span<const MemberSums> member_sums;  // of the members in their order; empty if no collector needs them
  uint64_t new_forks = 0;                   // members that joined by fork since the last report
  size_t skipped = 0;                       // members that were not read, because nothing of theirs had changed
  bool alone = false;                       // the family had one member when the scan began
};

// The end of a member (exit or exec), after its pages were judged.
struct EndReport {
  const Family* family = nullptr;
  const Member* member = nullptr;
};

// What collectors add up.
using Report = std::variant<WindowReport, MovedReport, FamilyReport, EndReport>;

// A step without a report; call Next again.
struct NothingYet {};
// The step was interrupted; the next one repeats it.
struct Interrupted {};
// A window that has not changed since its last report.
struct UnchangedWindow {
  WindowIndex window;
  std::chrono::system_clock::time_point read_at;  // not later than any of its pages was read
};
// The result of one step. FamilyReport is the last one.
using ScanStep = std::variant<NothingYet, Interrupted, UnchangedWindow, WindowReport, MovedReport, FamilyReport>;

// Returns the kind of the mapping that holds the verdict's page.
MappingKind KindOfVerdict(const Family& family, const Verdict& verdict, const procfs::PageGeometry& geometry);

}  // namespace cow::memory
