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
#include <map>
#include <span>
#include <unordered_map>
#include <vector>

#include "collectors/memory/frame_facts.h"
#include "collectors/memory/page.h"

namespace cow::memory {

enum class UnshareCause { kExit, kUnmap, kCollapse, kUnknown };

struct Verdict {
  enum class Kind { kBreak, kUnshared, kUnattributed };
  static constexpr Slot kNobody = ~Slot{0};

  Kind kind = Kind::kBreak;
  UnshareCause cause = UnshareCause::kUnknown;  // of kUnshared
  bool side_known = true;                       // of kBreak: false where it can't be told who copied
  bool seen = true;              // of kBreak: false when inferred at a first look, from the kernel's marks
  Slot slot = Verdict::kNobody;  // who broke it, whose page became private, whose is unattributed
  uint64_t page = 0;             // number of the (first) virtual page
  uint64_t pages = 1;
  uint32_t heirs_begin = 0;  // of kBreak: who held the original besides, a range of Judgement::heirs
  uint32_t heirs_end = 0;
};

// What was decided about one window or about pages that moved. Appended to; the caller clears it.
struct Judgement {
  std::vector<Verdict> verdicts;
  std::vector<Slot> heirs;

  void Clear() {
    verdicts.clear();
    heirs.clear();
  }
};

// One member's reading of one window.
struct Reading {
  Slot slot = 0;
  const uint64_t* entries = nullptr;  // a window's worth of pagemap entries; zero where the member maps nothing
  bool first_look = false;            // judge also what differs already (never set for members older than the exporter)
  Slot parent = Verdict::kNobody;     // the member that forked it, where that is a member too
  bool is_root = false;
  bool hugetlb = false;  // its mapping here is hugetlb's: copy-on-write copies whole huge pages, and nothing collapses
  // Bitmap: pages whose entries were not read but recalled from this ledger. Null: all were read.
  const uint64_t* recalled = nullptr;
};

// Pages of a reading that were recalled and that a verdict would take on trust.
struct Doubt {
  uint32_t reading = 0;  // its index
  uint32_t first = 0;    // pages within the window
  uint32_t last = 0;     // the last one itself
};

struct PageOfMember {
  Slot slot = 0;
  uint64_t page = 0;  // number of the virtual page
};

// What went on among the members, or may have, that page-table entries alone do not show.
struct Circumstances {
  bool ksm_in_use = false;  // some member has merged pages: newly shared frames are asked about
  // Pages came back from swap since the look before: a recorded frame may have been given up by all its holders and
  // taken for another page of theirs since, so that finding it proves nothing.
  bool swapped_in = false;
};

// What Examine found; buffers are reused from window to window.
struct Examination {
  std::vector<uint64_t> questions;  // frames whose kpageflags are needed before Settle
  std::vector<uint32_t> witnesses;  // indexes of readings to be taken again: pages in `attention` must read the same
  std::vector<uint64_t> attention;  // bitmap: pages that are judged one by one
  std::vector<uint64_t>
      unstable;        // bitmap set by the caller: pages that kept changing under the reads, left for the next pass
  bool quiet = false;  // nothing changed: Settle has nothing to do
  std::vector<Doubt> doubts;  // to be read, and the window examined anew, before Settle

  // Scratch of the ledger.
  bool swapped_in = false;
  struct Member {
    const uint64_t* frames = nullptr;    // AnonFrame per page
    std::vector<uint64_t> own_frames;    // storage where it is not another member's
    std::vector<uint64_t> anon;          // bitmap: has an anonymous frame
    std::vector<uint64_t> maybe_shared;  // bitmap: and bit 56 is clear
    std::vector<uint64_t> away;          // bitmap: swapped out or migrating
    std::vector<uint64_t> current;       // bitmap: has the candidate frame
  };
  std::vector<Member> members;
  std::vector<uint64_t> candidates;  // per page: the recorded frame, or one that might become it
  std::vector<uint64_t> grouped;     // bitmap: pages with a recorded frame
  std::vector<uint64_t> pairs;       // bitmap: at least two members have the candidate frame
  std::vector<uint64_t> unchanged;   // bitmap, where KSM is in use: still shared, unless KSM made the frame its own
};

// What a settled window looks like, for those who add up.
struct WindowSharing {
  struct Member {
    std::vector<uint64_t> shared;  // bitmap: shares this page with another member at the same address
    uint64_t ksm_pages = 0;        // merged by KSM (counted where KSM is in use), not in `shared`
    bool has_orphans = false;      // pages whose partner is looked for at the end of the pass
  };
  std::vector<Member> members;    // parallel to the readings
  uint64_t exposure_pages = 0;    // Σ over frames (holders − 1)
  uint64_t unresolved_pages = 0;  // swapped or migrating while a partner is not
};

// What only the whole pass can tell: pages matched by frame at different addresses.
struct MovedSharing {
  int64_t shared_pages = 0;      // process view: private in their window, shared over the family
  int64_t exposure_pages = 0;    // Σ over those frames (holders − 1)
  uint64_t unmatched_pages = 0;  // mapped by somebody who is no member
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

  // Decides. `facts` answers the questions asked (all of them, or some are unknown).
  void Settle(uint64_t window, std::span<const Reading> readings, const FrameFacts& facts,
              const Examination& examination, Judgement& judgement, WindowSharing& sharing);

  // True if somebody who is not in a window's readings may hold pages there: the window must be visited.
  std::vector<uint64_t> Windows() const;

  // Pages at moved addresses that were not read, of frames that another holder has no more: to be confirmed.
  std::vector<PageOfMember> MovedInDoubt() const;
  void ConfirmMoved(const PageOfMember& page, uint64_t entry);

  // Frames of pages that are mapped more than once but found no partner at their address, and of those matched before.
  std::vector<uint64_t> OrphanFrames() const;

  // Matches orphans by frame over the whole family. `facts` answers OrphanFrames with flags and map counts. Windows
  // that were not visited in this pass are forgotten, departed members' slots are free afterwards.
  void FinishPass(const FrameFacts& facts, Judgement& judgement, MovedSharing& moved);

  // Nothing is recorded as shared.
  bool empty() const { return windows_.empty() && moved_.empty(); }
  bool IsDeparting(Slot slot) const;

  // Bytes of heap that the records take.
  size_t MemoryBytes() const;

 private:
  // Further frames shared at a page beside the window's own, by other members.
  struct Extra {
    uint32_t page = 0;  // within the window
    uint64_t frame = kNoFrame;
    std::vector<Slot> holders;
  };
  // A holder whose page is swapped out or migrating, or could not be compared.
  struct Away {
    uint32_t page = 0;
    uint64_t frame = kNoFrame;  // that its group is recorded at
    Slot slot = 0;
    bool missed = false;  // it or its partner was not read: no reason for another frame, as swapping is
  };
  struct Window {
    std::vector<uint64_t> frames;  // per page, kNoFrame: nothing recorded; empty: dropped for the budget
    std::vector<uint64_t> held;    // per slot one bitmap
    std::vector<Extra> extras;
    std::vector<Away> away;
    uint64_t bytes = 0;  // charged to the budget
  };
  // A holder of a frame that is shared between different addresses.
  struct Moved {
    uint64_t page = 0;  // number of the virtual page
    Slot slot = 0;
    uint64_t frame = kNoFrame;
    uint64_t now = 0;       // entry read in this pass, or kNotRead
    bool recalled = false;  // `now` was not read: nothing of the member has changed
  };
  // A page without a partner at its address although it is mapped more than once.
  struct Orphan {
    uint64_t frame = kNoFrame;
    uint64_t page = 0;
    Slot slot = 0;
    bool was_shared = false;  // the ledger had it; `cause` tells how the others left
    UnshareCause cause = UnshareCause::kUnknown;
  };
  struct Holder;
  struct Group;
  struct Outcome;
  class PageJudge;

  std::span<uint64_t> Held(Window& window, Slot slot);
  std::span<const uint64_t> Held(const Window& window, Slot slot) const;
  std::span<const Moved> MovedIn(uint64_t window) const;
  std::span<Moved> MovedIn(uint64_t window);
  static bool JudgeByMarks(const std::vector<const Holder*>& holders, const FrameFacts& facts, Outcome& outcome);
  static void Evaluate(Group& group, const FrameFacts& facts, Outcome& outcome);
  void SettleBulk(Window& record, std::span<const Reading> readings, const Examination& examination,
                  std::span<const uint64_t> judged, uint64_t first_page, Judgement& judgement);
  void DescribeWindow(const Window* record, std::span<const Reading> readings, const FrameFacts& facts,
                      const Examination& examination, std::span<const uint64_t> attention,
                      WindowSharing& sharing) const;
  void FindDoubts(const Window* record, std::span<const Reading> readings, Examination& examination) const;
  void RecallFrames(const Window& record, std::span<const Reading> readings, Examination& examination) const;
  bool HoldsAnything(const Window& record) const;
  void Charge(Window& record);

  size_t pages_;
  size_t words_;
  uint64_t zero_frame_;
  LedgerBudget* budget_;
  std::map<uint64_t, Window> windows_;
  std::vector<Moved> moved_;     // sorted by (page, slot)
  std::vector<Orphan> orphans_;  // of this pass
  std::vector<Slot> departing_;
  std::vector<Slot> standing_for_;                // in this pass
  std::unordered_map<Slot, uint64_t> unmatched_;  // pages of members that found no partner when they were read
};

}  // namespace cow::memory
