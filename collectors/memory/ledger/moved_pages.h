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
#include <optional>
#include <span>
#include <vector>

#include "collectors/base/steps.h"
#include "collectors/memory/ledger/frame_facts.h"
#include "collectors/memory/ledger/judgement.h"
#include "collectors/memory/ledger/ledger_budget.h"
#include "collectors/memory/ledger/moved_blocks.h"
#include "collectors/memory/ledger/moved_notes.h"
#include "collectors/memory/ledger/page.h"
#include "collectors/memory/ledger/reading.h"
#include "collectors/memory/ledger/window_records.h"

namespace cow::memory {

class MovedPages {
 public:
  // `budget` outlives it; null: no limit.
  MovedPages(size_t pages_per_window, uint64_t zero_frame, LedgerBudget* budget);

  // A pass begins: nothing is known yet about any page but those of members that are not read, because nothing of
  // theirs has changed.
  void BeginPass(std::span<const Slot> standing_for);

  bool Has(uint64_t window) const { return blocks_.Has(window); }
  // Sets the bits of recorded pages of a slot in the window.
  void MarkHeld(uint64_t window, Slot slot, std::span<uint64_t> bitmap) const;
  // Recorded pages of one window.
  std::vector<MovedPage> In(uint64_t window) const;
  // Takes what a window's readings say of recorded pages.
  void Note(uint64_t window, std::span<const Reading> readings);

  // Beyond the memory limit an orphan is only counted, as unmatched.
  void AddOrphan(const OrphanPage& orphan);
  std::span<const OrphanPage> orphans() const { return notes_.orphans; }
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
  bool empty() const { return blocks_.empty(); }
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
  bool Stands(Slot slot) const { return slot < stands_.size() && stands_[slot]; }
  Steps Count(MovedSharing& sharing);
  void BookPending();

  size_t pages_;
  uint64_t zero_frame_;
  LedgerBudget* budget_;
  MovedBlocks blocks_;
  std::vector<uint64_t> shared_by_slot_;  // at the end of the last pass
  bool has_unmatched_ = false;            // in the last pass
  MemoryCharge moved_charge_;
  MemoryCharge pending_charge_;

  // Of the pass under way:
  std::vector<bool> stands_;  // by slot: it is not read, because nothing of it has changed
  MovedNotes notes_;
  bool new_groups_ = false;
  std::optional<std::vector<uint64_t>> doubles_;  // frames that may be recorded twice; empty: not looked for
};

}  // namespace cow::memory
