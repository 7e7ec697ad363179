// Pages of a family that are shared between different addresses (mremap): matched by frame at the end of a pass.
//
// A page frame has one group of holders, wherever they map it. Where all of them map it at one address, the window's
// record has it; else MovedPages has it, in blocks (moved_block.h). The end of a pass finds groups that belong here:
//   an orphan    a page that is mapped more than once and has no partner at its address
//   a double     two windows' records, or a record and a group here, have one frame
//
// Pure: no file is read. Page numbers are those of the address space. Memory: about 4 bytes a page frame and address,
// and two bits a holder, all of it booked with the budget. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "collectors/memory/frame_facts.h"
#include "collectors/memory/frame_group.h"
#include "collectors/memory/judgement.h"
#include "collectors/memory/ledger_budget.h"
#include "collectors/memory/moved_block.h"
#include "collectors/memory/page.h"
#include "collectors/memory/reading.h"
#include "collectors/memory/steps.h"
#include "collectors/memory/window_records.h"

namespace cow::memory {

// What only the whole pass can tell: pages matched by frame at different addresses.
struct MovedSharing {
  int64_t shared_pages = 0;      // process view: private in their window, shared over the family
  int64_t exposure_pages = 0;    // Σ over those frames (holders − 1)
  uint64_t unmatched_pages = 0;  // mapped by somebody who is no member
  // A partner may be at an address that was not read in this pass: only a pass over all members tells.
  bool must_read_all = false;
};

// A page without a partner at its address although it is mapped more than once.
struct OrphanPage {
  uint64_t frame = kNoFrame;
  uint64_t page = 0;
  Slot slot = 0;
  bool was_shared = false;  // the ledger had it; `cause` tells how the others left
  UnshareCause cause = UnshareCause::kUnknown;

  bool operator<(const OrphanPage& other) const {
    return std::tie(frame, slot, page) < std::tie(other.frame, other.slot, other.page);
  }
};

class MovedPages {
 public:
  // `budget` outlives it; null: no limit.
  MovedPages(size_t pages_per_window, uint64_t zero_frame, LedgerBudget* budget);

  // A pass begins: nothing is known yet about any page but those of members that are not read, because nothing of
  // theirs has changed.
  void BeginPass(std::span<const Slot> standing_for);

  bool Has(uint64_t window) const { return windows_.contains(window); }
  // Sets the bits of recorded pages of a slot in the window.
  void MarkHeld(uint64_t window, Slot slot, std::span<uint64_t> bitmap) const;
  // Recorded pages of one window.
  std::vector<MovedPage> In(uint64_t window) const;
  // Takes what a window's readings say of recorded pages.
  void Note(uint64_t window, std::span<const Reading> readings);

  // Beyond the memory limit an orphan is only counted, as unmatched.
  void AddOrphan(const OrphanPage& orphan);
  std::span<const OrphanPage> orphans() const { return orphans_; }
  // A holder at `page` has another frame now than the recorded one, which is mapped more often than its other holders
  // there account for: it broke the page, or it moved it and has another one in its place.
  void AddBreakOrMove(uint64_t frame, uint64_t page, Slot slot, std::span<const Slot> heirs);
  // A record has a frame that it did not have: another record may have it too.
  void NoteNewGroups() { new_groups_ = true; }

  // Pages to confirm before Finish. They were not read, another holder lost their frame, and no member that was read
  // has it.
  Steps FindDoubts(std::vector<MovedPage>& doubts);
  void Confirm(const MovedPage& page, uint64_t entry);

  // The frames that Finish asks `facts` for, sorted. `all`: any of them may have been merged by KSM.
  Steps FindFrames(bool all, const WindowRecords& records, std::vector<uint64_t>& frames);
  void AddWindows(std::vector<uint64_t>& windows) const;
  // Adds, at each slot's place, its recorded pages that are in RAM, and not alone there. Between passes.
  void AddSharedPages(std::vector<uint64_t>& pages) const;
  bool empty() const { return windows_.empty(); }
  // The last pass found pages whose partners are nobody's that is known.
  bool has_unmatched() const { return has_unmatched_; }
  uint64_t MemoryBytes() const { return moved_charge_.bytes() + pending_charge_.bytes(); }
  void Clear();

  // Judges recorded pages, then matches orphans by frame with them, with each other and with what `records` hold, which
  // leaves its window's record. `departing`: members that ended. `all_read`: the records are of this pass. Only then
  // two records with one frame are one group: else one of them may be out of date. What it settles is whole after its
  // last step only.
  Steps Finish(const FrameFacts& facts, std::vector<Slot> departing, bool all_read, WindowRecords& records,
               Judgement& judgement, MovedSharing& sharing);

 private:
  // Where a frame is recorded.
  struct Place {
    uint64_t frame = kNoFrame;
    uint32_t block = 0;
    uint32_t page = 0;  // within the block

    bool operator<(const Place& other) const {
      return std::tie(frame, block, page) < std::tie(other.frame, other.block, other.page);
    }
  };
  // Where a window's record has a frame.
  struct RecordedPage {
    uint64_t frame = kNoFrame;
    uint64_t page = 0;
    uint64_t holders = 0;

    bool operator<(const RecordedPage& other) const {
      return std::tie(frame, page) < std::tie(other.frame, other.page);
    }
  };
  struct InOrderOfPages {
    template <class Item>
    bool operator()(const Item& a, const Item& b) const {
      return std::tie(a.page, a.frame) < std::tie(b.page, b.frame);
    }
  };
  struct BreakOrMove {
    uint64_t frame = kNoFrame;
    uint64_t page = 0;
    Slot slot = 0;
    uint32_t heirs_begin = 0;
    uint32_t heirs_end = 0;
  };
  using OrphanRun = std::span<const OrphanPage>;  // of one frame

  std::vector<MovedBlock*> Blocks();
  // By frame.
  static Steps FindPlaces(std::span<MovedBlock* const> blocks, std::vector<Place>& places);
  bool Stands(Slot slot) const { return slot < stands_.size() && stands_[slot]; }

  Steps SortOrphans();
  // The slot has an orphan of this frame.
  bool HasOrphan(uint64_t frame, Slot slot) const;
  // It moved the page: it has an orphan of this frame, or shares it at another address with others who moved it.
  bool HasElsewhere(uint64_t frame, Slot slot) const;
  Steps FindLostFrames(std::vector<std::pair<uint64_t, Slot>>& lost);
  Steps FindUnseen(std::span<const Slot> slots, const WindowRecords& records);
  Steps FindMovedGroups(const WindowRecords& records);
  // It moved pages, and some window has lost the frames of what it shares there.
  bool MayBeUnseen(Slot slot) const;
  Steps JudgeBreaksOrMoves(Judgement& judgement);
  Steps JudgeRecorded(const FrameFacts& facts, std::span<const Slot> departing, Judgement& judgement);
  void JudgeFrame(std::span<const Place> places, std::span<MovedBlock* const> blocks, const FrameFacts& facts,
                  const std::vector<bool>& departs, Judgement& judgement);
  FrameHolder Describe(const MovedBlock& block, size_t holder, size_t page, const FrameFacts& facts) const;
  Steps MatchOrphans(const FrameFacts& facts, Judgement& judgement, std::vector<OrphanRun>& unmatched);
  // Frames that are recorded twice; all of these, and a few others.
  Steps FindDoubles(const WindowRecords& records, std::vector<uint64_t>& doubles) const;
  // `frames`: sorted.
  static Steps FindRecorded(const WindowRecords& records, std::span<const uint64_t> frames, size_t pages_per_window,
                            std::vector<RecordedPage>& found);
  // How many holders the groups of these pages' frames have, by frame.
  Steps CountHolders(std::span<const RecordedPage> pages, std::unordered_map<uint64_t, uint64_t>& holders) const;
  // Finds where the records have frames that are wanted here: orphans', and those that are recorded twice.
  Steps FindTaken(std::span<const OrphanRun> unmatched, bool all_read, const FrameFacts& facts,
                  const WindowRecords& records, std::vector<RecordedPage>& taken, bool& doubles_left);
  // Takes the groups of these pages out of the records. `frames`: theirs, sorted.
  Steps TakeRecorded(std::vector<RecordedPage>& taken, WindowRecords& records, MovedSharing& sharing,
                     std::vector<uint64_t>& frames);
  void TakeFromWindow(std::span<const RecordedPage> taken, WindowRecords& records, MovedSharing& sharing,
                      std::vector<uint64_t>& frames);
  Steps MatchRecords(std::span<const OrphanRun> unmatched, bool all_read, const FrameFacts& facts,
                     WindowRecords& records, Judgement& judgement, MovedSharing& sharing);
  void AddToGroup(OrphanRun orphans);
  void AddToWindow(uint64_t window, std::vector<MovedPage> pages);
  Steps PackAdded();
  Steps PackSparse();
  Steps Count(MovedSharing& sharing);
  void BookMoved();
  void BookPending();
  uint64_t PendingBytes() const;

  size_t pages_;
  uint64_t zero_frame_;
  LedgerBudget* budget_;
  std::map<uint64_t, std::vector<MovedBlock>> windows_;
  std::vector<uint64_t> shared_by_slot_;  // at the end of the last pass
  bool has_unmatched_ = false;            // in the last pass
  MemoryCharge moved_charge_;
  MemoryCharge pending_charge_;

  // Of the pass under way:
  std::vector<bool> stands_;    // by slot: it is not read, because nothing of it has changed
  std::vector<bool> remapped_;  // by slot: its mappings changed since its look before
  std::vector<OrphanPage> orphans_;
  uint64_t uncounted_orphans_ = 0;  // for which there was no memory
  std::vector<BreakOrMove> breaks_or_moves_;
  std::vector<Slot> heirs_;  // of these
  bool new_groups_ = false;
  std::optional<std::vector<uint64_t>> doubles_;  // frames that may be recorded twice; empty: not looked for

  // While it finishes:
  std::vector<uint64_t> frames_;  // of groups, sorted
  // Frames that a slot lost at one address and holds in a group at another, sorted.
  std::vector<std::pair<uint64_t, Slot>> moved_groups_;
  std::vector<bool> unseen_;            // by slot: it lost a frame that a window without frames may have
  std::vector<OrphanPage> left_alone_;  // the last of a group
  std::vector<MovedPage> added_;
};

}  // namespace cow::memory
