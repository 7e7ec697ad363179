// The ledger of one family: which frame each virtual page was shared at, and which members still hold it. From it
// follows, at the next look, who broke a page, who kept the original, and what became private because a partner left.
//
// Pure: it sees pagemap entries and answers about frames, never a file, so it is tested with hand-made windows. One
// pass over a family is
//   for each window: Examine (what changed, what must be asked) → the scanner reads answers and witnesses → Settle
//   at the end:      Orphans (pages whose partner is not at their address) → answers → FinishPass, in steps
// Examine changes nothing, so that a window can be read again as often as needed before it is settled.
//
// Rules are those of a single virtual page:
//   still shared  the same frame in two members (neither the zero page nor one merged by KSM)
//   broken by X   it was in the ledger, X has another frame, and a holder still has the old one or is gone
//   moved         every holder's frame changed to the same new one (migration), or it sits at another address (mremap)
//   unshared      the frame is the same, the others left: exit, unmap, or a collapse into a new huge page
//   fresh         present, not in the ledger, not shared: never a break
//   unattributed  at a member's first look it differs from its relatives and nothing tells why
//   unresolved    swapped or migrating on one side: judged when it is back
//
// Units: pages and page numbers (address / page size). Memory: at most 4 bytes a recorded page (8 where a frame of the
// window is beyond 16 TiB; less where frames are consecutive), at most one bit per member and page, and a tree node for
// each window that holds something shared. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "collectors/memory/ledger/examination.h"
#include "collectors/memory/ledger/frame_facts.h"
#include "collectors/memory/ledger/judgement.h"
#include "collectors/memory/ledger/moved_pages.h"
#include "collectors/memory/ledger/page.h"
#include "collectors/memory/ledger/reading.h"
#include "collectors/memory/ledger/window_record.h"
#include "collectors/memory/ledger/window_records.h"

namespace cow::memory {

// What a settled window looks like, for those who add up.
struct WindowSharing {
  struct Member {
    std::vector<uint64_t> shared;  // bitmap: shares this page with another member at the same address
    uint64_t shared_pages = 0;     // how many
    uint64_t ksm_pages = 0;        // merged by KSM (counted where KSM is in use), not in `shared`
    uint64_t maybe_ksm_pages = 0;  // merged by KSM or shared by fork: which can't be told; not in `shared` either
    bool has_orphans = false;      // pages whose partner is looked for at the end of the pass
  };
  std::vector<Member> members;    // parallel to the readings
  uint64_t exposure_pages = 0;    // Σ over frames (holders − 1)
  uint64_t unresolved_pages = 0;  // swapped or migrating while a partner is not, or of `maybe_ksm_pages`
};

// What members that end leave behind in a window, by its record.
struct DepartedSharing {
  std::vector<std::vector<uint64_t>> shared;  // bitmaps, parallel to those that end: pages that each shared
  uint64_t exposure_pages = 0;                // that go with them
  uint64_t alone_pages = 0;                   // of those that remain, which nobody shares any more
};

class Ledger {
 public:
  // `zero_frame`: the base zero page's frame, kNoFrame if unknown. `budget`: shared by ledgers, outlives them; null: no
  // limit.
  Ledger(size_t pages_per_window, uint64_t zero_frame, LedgerBudget* budget = nullptr);
  Ledger(const Ledger&) = delete;
  Ledger& operator=(const Ledger&) = delete;

  // A pass begins: nothing is known yet about pages at moved addresses but of those members that the records stand for
  // because nothing of theirs has changed.
  void BeginPass(std::span<const Slot> standing_for = {});

  // A member ended (exit or exec). Its pages are settled window by window in the pass that follows.
  void Depart(Slot slot);

  // What is remembered of an unchanged member's window, as entries; zero where nothing is recorded.
  void Recall(uint64_t window, Slot slot, std::span<uint64_t> entries) const;
  // Both members' windows are remembered as the same entries.
  bool RemembersAlike(uint64_t window, Slot a, Slot b) const;
  // The window can't be left alone though all its entries are as they were.
  bool IsRestless(uint64_t window) const;

  // `readings`: every living member, also those without a page in the window.
  void Examine(uint64_t window, std::span<const Reading> readings, const Circumstances& circumstances,
               Examination& examination) const;
  // The same examination's doubts anew, after pages of some readings were read and are as they were recalled.
  void DoubtReadings(uint64_t window, std::span<const Reading> readings, Examination& examination) const;

  // Decides. `facts` answers the questions asked (all of them, or some are unknown).
  void Settle(uint64_t window, std::span<const Reading> readings, const FrameFacts& facts,
              const Examination& examination, Judgement& judgement, WindowSharing& sharing);

  // What leaves with members that end, where `remaining` are the others that were shown in the window.
  void DescribeDeparture(uint64_t window, std::span<const Slot> gone, std::span<const Slot> remaining,
                         DepartedSharing& sharing) const;

  // Windows where somebody may hold pages whom no reading shows (it ended, or unmapped them): they must be visited.
  std::vector<uint64_t> Windows() const;

  // Pages at moved addresses that were not read, of frames that another holder has no more: to be confirmed.
  Steps FindMovedInDoubt(std::vector<MovedPage>& doubts) { return moved_.FindDoubts(doubts); }
  void ConfirmMoved(const MovedPage& page, uint64_t entry) { moved_.Confirm(page, entry); }

  // Frames of pages that are mapped more than once but found no partner at their address, and of those matched before.
  // `all`: KSM may have merged any of them. `frames`: sorted.
  Steps FindOrphanFrames(bool all, std::vector<uint64_t>& frames) { return moved_.FindFrames(all, records_, frames); }

  // After a pass: what is shared between different addresses, those of its pages that are in the window.
  std::vector<MovedPage> MovedIn(uint64_t window) const { return moved_.In(window); }

  // Matches orphans by frame over the whole family. `facts` answers FindOrphanFrames with flags and map counts. The
  // slots of members that had departed when it began are free afterwards, unless one of their pages could not be
  // settled. `all_read`: every member was read in this pass. Begun, it has to be brought to its end, or the ledger
  // cleared.
  Steps FinishPass(const FrameFacts& facts, Judgement& judgement, MovedSharing& moved, bool all_read = true);

  // Adds, at each slot's place, the pages that it shares with another member; `pages` grows as needed.
  void AddSharedPages(std::vector<uint64_t>& pages) const;

  // Forgets everything; members that departed are settled by it.
  void Clear();

  // Nothing is recorded as shared.
  bool empty() const { return records_.empty() && moved_.empty(); }
  bool IsDeparting(Slot slot) const;
  // The last pass found pages that somebody shares who is not known: the partner may be one who joins.
  bool has_unmatched() const { return moved_.has_unmatched(); }

  // Bytes of heap that the records take, without what the allocator adds.
  uint64_t MemoryBytes() const { return records_.MemoryBytes() + moved_.MemoryBytes(); }

 private:
  void SettleRecord(uint64_t window, std::span<const Reading> readings, const FrameFacts& facts,
                    const Examination& examination, std::span<const uint64_t> attention, Judgement& judgement);
  void SettleBulk(WindowRecord& record, std::span<const Reading> readings, const Examination& examination,
                  std::span<const uint64_t> judged, uint64_t first_page, Judgement& judgement);
  std::vector<uint64_t> TakeDepartures(WindowRecord& record, std::span<const uint64_t> judged) const;
  void Describe(const PackedWindow* record, std::span<const Reading> readings, const FrameFacts& facts,
                const Examination& examination, std::span<const uint64_t> attention, WindowSharing& sharing) const;
  void DescribeShared(const PackedWindow* record, std::span<const Reading> readings, WindowSharing& sharing) const;

  size_t pages_;
  size_t words_;
  uint64_t zero_frame_;
  WindowRecords records_;
  MovedPages moved_;
  std::vector<Slot> departing_;
};

}  // namespace cow::memory
