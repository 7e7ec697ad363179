// What a collector is shown: windows with their verdicts, and what a whole pass over a family found. Read-only, valid
// during the call only.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "collectors/memory/family/families.h"
#include "collectors/memory/family/segment_tally.h"
#include "collectors/memory/ledger/ledger.h"
#include "collectors/memory/read/mapping.h"
#include "collectors/memory/read/page_table_reader.h"
#include "collectors/procfs/ksm.h"
#include "collectors/procfs/smaps.h"
#include "collectors/procfs/system.h"

namespace cow::memory {

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
  uint64_t maybe_ksm_pages = 0;  // shared by fork or merged by KSM: which can't be told
  bool split = false;            // its huge page was split, and it broke a page here
};

struct WindowView {
  const Family* family = nullptr;
  uint64_t window = 0;
  procfs::PageGeometry geometry;
  std::chrono::system_clock::time_point read_at;  // not later than any of its pages
  std::span<const MemberWindow> members;          // those that map something here
  std::span<const Reading> readings;              // of all members that could be read, parallel to sharing->members
  const WindowSharing* sharing = nullptr;
  const Judgement* judgement = nullptr;
  bool frames_known = true;
  bool mapcounts_known = true;  // bit 56 is each page's own, and kpagecount
  bool alone = false;           // the family had one member when the scan began
};

// One member's anonymous memory over all its windows, in base pages.
struct MemberSums {
  uint64_t anon_pages = 0;    // present; the zero page is not in it
  uint64_t shared_pages = 0;  // of those: shared with another member
  uint64_t ksm_pages = 0;     // of those: merged by KSM, or that can't be ruled out
};

// What smaps_rollup says of one member. It is also read where the page table is denied.
struct SmapsReading {
  enum class State { kNotNeeded, kRead, kTooLarge, kGone, kUnreadable };
  State state = State::kNotNeeded;
  procfs::SmapsRollup sums;  // of kRead
};

// The end of a completed pass over a family.
struct FamilyView {
  const Family* family = nullptr;
  procfs::PageGeometry geometry;
  std::chrono::system_clock::time_point read_at;  // not later than anything of it
  const MovedSharing* moved = nullptr;
  Unwalked unwalked;
  std::array<bool, kModes> modes{};  // in use by its members
  bool frames_known = true;     // false: zero pages could not be told from others in the windows, only in `unwalked`
  bool mapcounts_known = true;  // bit 56 is each page's own, and kpagecount
  bool scan_known = true;       // PAGEMAP_SCAN is there: huge_pmd is a count; else it is unknown
  std::span<const SmapsReading> smaps;      // of the members in their order
  std::span<const MemberSums> member_sums;  // of the members in their order; empty if nobody needs them
  size_t skipped = 0;                       // members that were not read, because nothing of theirs had changed
  bool alone = false;                       // the family had one member when the scan began
};

// A family at the end of a pass, read in it or not.
struct PassView {
  const Family* family = nullptr;
  std::span<const Result<procfs::KsmStat>> ksm;  // of the members in their order; empty if nobody needs it
};

// The mapping kind of the page that a verdict is about.
MappingKind KindOfVerdict(const Family& family, const Verdict& verdict, const procfs::PageGeometry& geometry);

class ScanObserver {
 public:
  virtual ~ScanObserver() = default;
  virtual void OnWindow(const WindowView& view) = 0;
  // A window that was shown before is still as it was. `read_at`: not later than any of its pages was read.
  virtual void OnUnchanged(const Family& family, uint64_t window, std::chrono::system_clock::time_point read_at) = 0;
  // Verdicts about pages at moved addresses: after the windows, any number of times.
  virtual void OnMoved(const Family& family, const Judgement& judgement) = 0;
  virtual void OnFamily(const FamilyView& view) = 0;
  // Asked between two windows, and wherever else the state is consistent, at least every 10 ms; may sleep. False
  // abandons the pass.
  virtual bool Continue() = 0;
  // The same amid a window, whose readings must not lie apart: true abandons the pass, and it never sleeps. Any thread.
  virtual bool MustStop() const { return false; }
};

}  // namespace cow::memory
