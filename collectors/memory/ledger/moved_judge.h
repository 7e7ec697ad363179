// Judges moved pages at the end of a pass: recorded moved pages that changed, and pages that a member broke or moved.
//
// Pure. Serves one end of a pass. Not thread-safe.
#pragma once

#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include "collectors/base/steps.h"
#include "collectors/memory/ledger/frame_facts.h"
#include "collectors/memory/ledger/frame_group.h"
#include "collectors/memory/ledger/judgement.h"
#include "collectors/memory/ledger/moved_blocks.h"
#include "collectors/memory/ledger/moved_notes.h"
#include "collectors/memory/ledger/page.h"
#include "collectors/memory/ledger/window_records.h"

namespace cow::memory {

class MovedJudge {
 public:
  // All arguments outlive it. `zero_frame`: the PFN of the base zero page. `facts` answers for the frames that changed.
  MovedJudge(size_t pages_per_window, Pfn zero_frame, const MovedNotes& notes, const FrameFacts& facts,
             const WindowRecords& records, MovedBlocks& blocks, Judgement& judgement);

  // The notes' unmatched pages are sorted. `departing`: members that ended.
  Steps JudgeAll(std::span<const MemberIndex> departing);

  // Afterwards: the frames of the remaining groups, sorted.
  std::span<const Pfn> frames() const { return frames_; }
  // Afterwards: pages that may need a partner now: last holders of a group, and pages that replaced a group's page.
  std::span<const UnmatchedPage> left_alone() const { return left_alone_; }

 private:
  using FrameOfSlot = std::pair<Pfn, MemberIndex>;

  // True if the slot moved the page: it has an unmatched page of this frame, or a group holds the frame for it at
  // another address.
  bool HasElsewhere(Pfn frame, MemberIndex slot) const;
  // True if the slot lost a frame that a record without frames may still have for it.
  bool MayBeUnseen(MemberIndex slot) const { return unseen_.Has(slot); }
  // Finds frames that a slot lost at one address and may hold in a group at another, sorted.
  Steps FindLostFrames(std::vector<FrameOfSlot>& lost);
  Steps FindUnseen(std::span<const MemberIndex> slots);
  Steps FindMovedGroups();
  Steps SeparateBreaksFromMoves();
  // Judges the recorded moved pages.
  Steps UpdateGroups(std::span<const MemberIndex> departing);
  void UpdateGroup(std::span<const MovedPlace> places, std::span<MovedBlock* const> blocks, const MemberSet& departed);
  FrameHolder Describe(const MovedBlock& block, size_t holder, size_t page) const;
  void AddVerdicts(const FrameGroup& group, const GroupOutcome& outcome);

  size_t pages_;
  Pfn zero_frame_;
  const MovedNotes& notes_;
  const FrameFacts& facts_;
  const WindowRecords& records_;
  MovedBlocks& blocks_;
  Judgement& judgement_;
  // Frames that a slot lost at one address and holds in a group at another, sorted.
  std::vector<FrameOfSlot> moved_groups_;
  MemberSet unseen_;  // see MayBeUnseen
  std::vector<Pfn> frames_;
  std::vector<UnmatchedPage> left_alone_;
};

}  // namespace cow::memory
