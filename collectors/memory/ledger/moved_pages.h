// Keeps the pages of a family that are shared between different addresses (mremap), matched by frame at the end of a
// pass.
//
// A frame has one group of holders, at all of their addresses. If all holders map it at one address, the window's
// record has the group; otherwise MovedPages has it, in blocks (moved_block.h). The end of a pass moves groups here for
//   an unmatched page  a page that is mapped more than once and has no partner at its address
//   a double           a frame that two records have, or a record and a group here
//
// Pure: reads no file. Page numbers are those of the address space. Memory: about 4 bytes per frame and address and two
// bits per holder, all accounted with the budget. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "collectors/base/steps.h"
#include "collectors/memory/ledger/end_of_pass.h"
#include "collectors/memory/ledger/frame_facts.h"
#include "collectors/memory/ledger/judgement.h"
#include "collectors/memory/ledger/ledger_budget.h"
#include "collectors/memory/ledger/moved_blocks.h"
#include "collectors/memory/ledger/page.h"
#include "collectors/memory/ledger/reading.h"
#include "collectors/memory/ledger/window_records.h"

namespace cow::memory {

class MovedPages {
 public:
  // `budget` outlives it; null: no limit.
  MovedPages(size_t pages_per_window, Pfn zero_frame, LedgerBudget* budget);

  // Begins a pass: pages count as not read, except those of `standing_for`, members that are not read because they are
  // unchanged.
  void BeginPass(std::span<const MemberIndex> standing_for);

  bool Has(WindowIndex window) const { return blocks_.Has(window); }
  // Sets the bits of the slot's recorded pages in the window.
  void MarkHeld(WindowIndex window, MemberIndex slot, BitmapSpan bitmap) const;
  // The recorded pages of one window.
  std::vector<MovedPage> In(WindowIndex window) const;
  // Takes the entries of recorded pages from a window's readings.
  void Note(WindowIndex window, std::span<const Reading> readings);

  // Notes the page for the end of the pass. Over the memory limit, only counts it.
  void AddUnmatched(const UnmatchedPage& page);
  std::span<const UnmatchedPage> unmatched() const { return notes_.unmatched; }
  // The holder at `page` lost the recorded frame, which has more mappings than the other holders there account for. So
  // it broke the page, or moved it and mapped another one in its place.
  void AddBreakOrMove(Pfn frame, PageNumber page, MemberIndex slot, std::span<const MemberIndex> holders);
  // A record has a new frame: another record may have the same one.
  void NoteNewGroups() { new_groups_ = true; }

  // Finds pages to confirm before Finish: they were not read, another holder lost their frame, and no member that was
  // read has it.
  Steps FindDoubts(std::vector<MovedPage>& doubts);
  void Confirm(const MovedPage& page, PageEntry entry);

  // Finds the frames that Finish asks `facts` about, sorted. `all`: KSM may have merged any of them.
  Steps FindFrames(bool all, const WindowRecords& records, std::vector<Pfn>& frames);
  void AddWindows(std::vector<WindowIndex>& windows) const;
  // Adds to pages[slot] its recorded pages that are in RAM and shared. Call between passes.
  void AddSharedPages(std::vector<uint64_t>& pages) const;
  bool empty() const { return blocks_.empty(); }
  // True if the last pass found pages that a process outside the family shares.
  bool has_unmatched() const { return has_unmatched_; }
  uint64_t MemoryBytes() const { return moved_charge_.bytes() + pending_charge_.bytes(); }
  void Clear();

  // Judges recorded pages, then matches unmatched pages by frame with moved pages, with each other and with `records`.
  // A matched group leaves its record. `departing`: members that ended. `all_read`: all records are of this pass. Only
  // then are two records with one frame one group; otherwise one may be out of date. The state is consistent only after
  // the last step.
  Steps Finish(const FrameFacts& facts, std::vector<MemberIndex> departing, bool all_read, WindowRecords& records,
               Judgement& judgement, MovedSharing& sharing);

 private:
  Steps Count(MovedSharing& sharing);
  void BookPending();

  size_t pages_;
  Pfn zero_frame_;
  LedgerBudget* budget_;
  MovedBlocks blocks_;
  std::vector<uint64_t> shared_by_slot_;  // at the end of the last pass
  bool has_unmatched_ = false;            // in the last pass
  MemoryCharge moved_charge_;
  MemoryCharge pending_charge_;

  // State of the current pass:
  MemberSet stands_;  // members that are not read because they are unchanged
  MovedNotes notes_;
  bool new_groups_ = false;
  std::optional<std::vector<Pfn>> doubles_;  // frames that may be recorded twice; empty: do not look for them
};

}  // namespace cow::memory
