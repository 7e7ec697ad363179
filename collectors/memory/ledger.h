// The ledger of one family: which frame each virtual page was shared at, and which members still hold it. From it
// follows, at the next look, who broke a page, who kept the original, and what became private because a partner left.
//
// Pure: it sees pagemap entries and answers about frames, never a file, so it is tested with hand-made windows. One
// pass over a family is
//   for each window: Examine (what changed, what must be asked) → the scanner reads answers and witnesses → Settle
//   at the end:      Orphans (pages whose partner is not at their address) → answers → FinishPass
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
// Units: pages and page numbers (address / page size). Memory: 8 bytes a page plus one bit per member and page for
// windows that hold something shared. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "collectors/memory/examination.h"
#include "collectors/memory/frame_facts.h"
#include "collectors/memory/judgement.h"
#include "collectors/memory/moved_pages.h"
#include "collectors/memory/page.h"
#include "collectors/memory/reading.h"
#include "collectors/memory/window_record.h"

namespace cow::memory {

// What a settled window looks like, for those who add up.
struct WindowSharing {
  struct Member {
    std::vector<uint64_t> shared;  // bitmap: shares this page with another member at the same address
    uint64_t ksm_pages = 0;        // merged by KSM (counted where KSM is in use), not in `shared`
  };
  std::vector<Member> members;    // parallel to the readings
  uint64_t exposure_pages = 0;    // Σ over frames (holders − 1)
  uint64_t unresolved_pages = 0;  // swapped or migrating while a partner is not
};

// What the records of all families may take together. Over the limit a window keeps one was-shared bit per member and
// page and drops its frames: breaks stay countable, but where no two holders have a frame in common any more, the
// kernel's marks must tell who has the original, or the side is unknown.
struct LedgerBudget {
  uint64_t limit_bytes = ~uint64_t{0};
  uint64_t used_bytes = 0;
};

class Ledger {
 public:
  // `zero_frame`: the base zero page's frame, kNoFrame if unknown. `budget`: shared by ledgers, outlives them; null: no
  // limit.
  Ledger(size_t pages_per_window, uint64_t zero_frame, LedgerBudget* budget = nullptr);
  ~Ledger();
  Ledger(const Ledger&) = delete;
  Ledger& operator=(const Ledger&) = delete;

  // A pass begins: nothing is known yet about pages at moved addresses.
  void BeginPass();

  // A member ended (exit or exec). Its pages are settled window by window in the pass that follows.
  void Depart(Slot slot);

  // `readings`: every living member, also those without a page in the window.
  void Examine(uint64_t window, std::span<const Reading> readings, const Circumstances& circumstances,
               Examination& examination) const;

  // Decides. `facts` answers the questions asked (all of them, or some are unknown).
  void Settle(uint64_t window, std::span<const Reading> readings, const FrameFacts& facts,
              const Examination& examination, Judgement& judgement, WindowSharing& sharing);

  // True if somebody who is not in a window's readings may hold pages there: the window must be visited.
  std::vector<uint64_t> Windows() const;

  // Frames of pages that are mapped more than once but found no partner at their address, and of those matched before.
  std::vector<uint64_t> OrphanFrames() const;

  // Matches orphans by frame over the whole family. `facts` answers OrphanFrames with flags and map counts. Departed
  // members' slots are free afterwards, unless one of their pages could not be settled.
  void FinishPass(const FrameFacts& facts, Judgement& judgement, MovedSharing& moved);

  // Nothing is recorded as shared.
  bool empty() const { return windows_.empty() && moved_.empty(); }
  bool IsDeparting(Slot slot) const;

  // Bytes of heap that the records take.
  size_t MemoryBytes() const;

 private:
  void SettleRecord(uint64_t window, std::span<const Reading> readings, const FrameFacts& facts,
                    const Examination& examination, std::span<const uint64_t> attention, Judgement& judgement);
  void SettleBulk(WindowRecord& record, std::span<const Reading> readings, const Examination& examination,
                  std::span<const uint64_t> judged, uint64_t first_page, Judgement& judgement);
  std::vector<uint64_t> TakeDepartures(WindowRecord& record, std::span<const uint64_t> judged) const;
  void Describe(const WindowRecord* record, std::span<const Reading> readings, const FrameFacts& facts,
                const Examination& examination, std::span<const uint64_t> attention, WindowSharing& sharing) const;
  void Charge(WindowRecord& record);
  void Uncharge(const WindowRecord& record);

  size_t pages_;
  size_t words_;
  uint64_t zero_frame_;
  LedgerBudget* budget_;
  WindowRecords windows_;
  MovedPages moved_;
  std::vector<Slot> departing_;
};

}  // namespace cow::memory
