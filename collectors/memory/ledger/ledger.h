// The ledger of one family. It records at which frame each virtual page was shared and which members hold it. The next
// look shows which member broke the page, which holders kept the original, and which page became private because its
// other holders left.
//
// Pure: it sees pagemap entries and facts about frames, never a file, so tests feed it hand-made windows. A pass over a
// family calls, for each window,
//   Compare (what changed, what must be asked), then the scanner reads frame facts and witnesses, then Commit,
// and at the end FindMovedInDoubt, FindFramesToMatch and FinishPass, each in steps. Compare changes nothing, so a
// window can be read again as often as needed before its verdicts are committed. ../README.md describes the states of a
// page.
//
// The verdicts on a single virtual page are:
//   still shared  two members have the same frame (neither the zero page nor a page merged by KSM)
//   broken by X   the page was recorded, X has another frame, and a holder still has the old frame or is gone
//   moved         all holders have the same new frame (migration), or the page is at another address (mremap)
//   unshared      the frame is unchanged and the other holders left: exit, unmap, or a collapse into a huge page
//   fresh         present, not recorded, not shared: never a break
//   unattributed  at a member's first look the page differs from its relatives' and no evidence says why
//   unresolved    swapped or migrating in one member: judged when it is back
//
// Units: pages and page numbers (address / page size). Memory: at most 4 bytes per recorded page (8 if a frame of the
// window lies beyond 16 TiB, less for consecutive frames), at most one bit per member and page, and one tree node per
// window that holds a shared page. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "collectors/base/bitmap.h"
#include "collectors/memory/ledger/comparison.h"
#include "collectors/memory/ledger/frame_facts.h"
#include "collectors/memory/ledger/judgement.h"
#include "collectors/memory/ledger/moved_pages.h"
#include "collectors/memory/ledger/page.h"
#include "collectors/memory/ledger/reading.h"
#include "collectors/memory/ledger/window_record.h"
#include "collectors/memory/ledger/window_records.h"

namespace cow::memory {

// The sharing in a window after its verdicts were committed.
struct WindowSharing {
  struct Member {
    WindowBitmap shared;           // shares this page with another member at this address
    uint64_t shared_pages = 0;     // bits set in `shared`
    uint64_t ksm_pages = 0;        // merged by KSM (counted if KSM is in use), not in `shared`
    uint64_t maybe_ksm_pages = 0;  // merged by KSM or shared by fork, undecidable; not in `shared`
    bool has_unmatched = false;    // has pages that the end of the pass must match
  };
  std::vector<Member> members;    // parallel to the readings
  uint64_t exposure_pages = 0;    // Σ over frames (holders − 1)
  uint64_t unresolved_pages = 0;  // swapped or migrating beside a present page, and `maybe_ksm_pages`
};

// The sharing that ends when members of a window end, according to its record.
struct DepartedSharing {
  std::vector<WindowBitmap> shared;  // parallel to the ended members: pages that each shared
  uint64_t exposure_pages = 0;       // exposure that ends with them
  uint64_t alone_pages = 0;          // pages that one remaining holder now has alone
};

class Ledger {
 public:
  // `zero_frame`: the PFN of the base zero page, Pfn::None() if unknown. `budget` is shared by ledgers and outlives
  // them; null: no limit.
  Ledger(size_t pages_per_window, Pfn zero_frame, LedgerBudget* budget = nullptr);
  Ledger(const Ledger&) = delete;
  Ledger& operator=(const Ledger&) = delete;

  // Begins a pass. Moved pages count as not read, except those of `standing_for`: members that are not read because
  // nothing about them has changed.
  void BeginPass(std::span<const MemberIndex> standing_for = {});

  // A member ended (exit or exec). The next pass commits the end of its pages window by window.
  void Depart(MemberIndex slot);

  // Fills `entries` with a member's window as recorded; zero for pages that are not recorded.
  void Recall(WindowIndex window, MemberIndex slot, std::span<PageEntry> entries) const;
  // True only if Recall gives both members the same entries.
  bool RecallsAlike(WindowIndex window, MemberIndex a, MemberIndex b) const;
  // True if the window must be compared even if all its entries are unchanged.
  bool MustCompare(WindowIndex window) const;

  // Compares a window with its record. `readings`: every living member, also members without a page in the window.
  void Compare(WindowIndex window, std::span<const Reading> readings, const Circumstances& circumstances,
               Comparison& comparison) const;
  // Finds the doubts of an comparison again, after some recalled pages were read and are unchanged.
  void UpdateDoubts(WindowIndex window, std::span<const Reading> readings, Comparison& comparison) const;

  // Decides the verdicts and updates the record. `facts` answers all questions of the comparison; some answers may be
  // unknown.
  void Commit(WindowIndex window, std::span<const Reading> readings, const FrameFacts& facts,
              const Comparison& comparison, Judgement& judgement, WindowSharing& sharing);

  // Describes what ends with the members `gone`. `remaining`: the other members that were shown in the window.
  void DescribeDeparture(WindowIndex window, std::span<const MemberIndex> gone, std::span<const MemberIndex> remaining,
                         DepartedSharing& sharing) const;

  // Windows in which a member may hold pages that no reading shows, because it ended or unmapped them. Every pass
  // visits them.
  std::vector<WindowIndex> Windows() const;

  // Finds moved pages that must be read before FinishPass: they were not read, and another holder lost their frame.
  Steps FindMovedInDoubt(std::vector<MovedPage>& doubts) { return moved_.FindDoubts(doubts); }
  void ConfirmMoved(const MovedPage& page, PageEntry entry) { moved_.Confirm(page, entry); }

  // Finds the frames that FinishPass needs facts about: those of pages without a partner at their address, and those of
  // moved pages that changed. `all`: KSM may have merged any moved page. `frames` is sorted.
  Steps FindFramesToMatch(bool all, std::vector<Pfn>& frames) { return moved_.FindFrames(all, records_, frames); }

  // After a pass: the pages of a window that are shared with other addresses.
  std::vector<MovedPage> MovedIn(WindowIndex window) const { return moved_.In(window); }

  // Matches pages without a partner by frame over the whole family. `facts` has the flags and map counts of the frames
  // that FindFramesToMatch found. Afterwards the slots of members that departed before the call are free, unless one of
  // their pages could not be judged. `all_read`: every member was read in this pass. Once begun, run it to its end or
  // clear the ledger.
  Steps FinishPass(const FrameFacts& facts, Judgement& judgement, MovedSharing& moved, bool all_read = true);

  // Adds to pages[slot] the number of pages that the slot shares with another member; `pages` grows as needed.
  void AddSharedPages(std::vector<uint64_t>& pages) const;

  // Forgets all records and departed members.
  void Clear();

  // True if no page is recorded as shared.
  bool empty() const { return records_.empty() && moved_.empty(); }
  bool IsDeparting(MemberIndex slot) const;
  // True if the last pass found pages that a process outside the family shares. A process that joins may be that
  // partner.
  bool has_unmatched() const { return moved_.has_unmatched(); }

  // Heap bytes of the records, without the allocator's overhead.
  uint64_t MemoryBytes() const { return records_.MemoryBytes() + moved_.MemoryBytes(); }

 private:
  void UpdateRecord(WindowIndex window, std::span<const Reading> readings, const FrameFacts& facts,
                    const Comparison& comparison, BitmapView attention, Judgement& judgement);
  void CommitByBitmaps(WindowRecord& record, std::span<const Reading> readings, const Comparison& comparison,
                       BitmapView judged, PageNumber first_page, Judgement& judgement);
  WindowBitmap TakeDepartures(WindowRecord& record, BitmapView judged) const;
  void Describe(const PackedWindow* record, std::span<const Reading> readings, const FrameFacts& facts,
                const Comparison& comparison, BitmapView attention, WindowSharing& sharing) const;
  void DescribeShared(const PackedWindow* record, std::span<const Reading> readings, WindowSharing& sharing) const;

  size_t pages_;
  size_t words_;
  Pfn zero_frame_;
  WindowRecords records_;
  MovedPages moved_;
  std::vector<MemberIndex> departing_;
};

}  // namespace cow::memory
