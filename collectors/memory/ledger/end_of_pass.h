// The end of a pass: judges pages whose partner may be at another address. Only frames over all windows decide them.
//
// Pure: reads no file. Not thread-safe.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <tuple>
#include <utility>
#include <vector>

#include "collectors/base/steps.h"
#include "collectors/memory/ledger/frame_facts.h"
#include "collectors/memory/ledger/judgement.h"
#include "collectors/memory/ledger/member_index.h"
#include "collectors/memory/ledger/moved_blocks.h"
#include "collectors/memory/ledger/page.h"
#include "collectors/memory/ledger/window_records.h"

namespace cow::memory {

// A page that is mapped more than once and has no partner at its address.
struct UnmatchedPage {
  Pfn frame;
  PageNumber page;
  MemberIndex slot;
  bool was_shared = false;  // it was recorded; `cause` says how the others left
  UnshareCause cause = UnshareCause::kUnknown;

  bool operator<(const UnmatchedPage& other) const {
    return std::tie(frame, slot, page) < std::tie(other.frame, other.slot, other.page);
  }
};

// What the windows of a pass left open.
struct MovedNotes {
  // A holder at `page` has another frame now: it broke the page, or moved it and mapped another one in its place.
  struct BreakOrMove {
    Pfn frame;
    PageNumber page;
    MemberIndex slot;
    uint32_t holders_begin = 0;
    uint32_t holders_end = 0;
  };

  std::vector<UnmatchedPage> unmatched;
  uint64_t dropped_unmatched = 0;  // dropped for lack of memory
  std::vector<BreakOrMove> breaks_or_moves;
  std::vector<MemberIndex> holders;  // of `breaks_or_moves`
  MemberSet remapped;                // members whose mappings changed since their last look

  // True if the slot has an unmatched page of this frame. `unmatched` is sorted.
  bool HasUnmatched(Pfn frame, MemberIndex slot) const {
    const auto first = std::lower_bound(unmatched.begin(), unmatched.end(), std::pair(frame, slot),
                                        [](const UnmatchedPage& page, const std::pair<Pfn, MemberIndex>& wanted) {
                                          return std::pair(page.frame, page.slot) < wanted;
                                        });
    return first != unmatched.end() && first->frame == frame && first->slot == slot;
  }
  std::span<const MemberIndex> HoldersOf(const BreakOrMove& each) const {
    return std::span(holders).subspan(each.holders_begin, each.holders_end - each.holders_begin);
  }
  uint64_t MemoryBytes() const {
    return unmatched.capacity() * sizeof(UnmatchedPage) + breaks_or_moves.capacity() * sizeof(BreakOrMove) +
           holders.capacity() * sizeof(MemberIndex);
  }
};

// Sharing between different addresses, known at the end of a pass only.
struct MovedSharing {
  int64_t shared_pages = 0;      // per process: private in their window, shared in the family
  int64_t exposure_pages = 0;    // Σ over those frames (holders − 1)
  uint64_t unmatched_pages = 0;  // mapped by a process outside the family
  // A partner may be at an address that this pass did not read: read all members in the next pass.
  bool must_read_all = false;
};

// What the end of a pass works on. It outlives the work.
struct EndOfPass {
  size_t pages_per_window = 0;
  Pfn zero_frame;                                  // the base zero page
  const MovedNotes& notes;                         // the unmatched pages are sorted
  const FrameFacts& facts;                         // answers for frames that changed, unmatched pages and doubles
  std::span<const MemberIndex> departing;          // members that ended
  const std::optional<std::vector<Pfn>>& doubles;  // frames that may be recorded twice; empty: do not look for them
  // All records are of this pass. Only then are two records with one frame one group; otherwise one may be out of date.
  bool all_read = true;
  WindowRecords& records;
  MovedBlocks& blocks;
  Judgement& judgement;
  MovedSharing& sharing;
};

struct MovedOutcome {
  std::vector<Pfn> frames;  // of the remaining groups, sorted
  // Pages that may need a partner now: last holders of a group, and pages that replaced a group's page.
  std::vector<UnmatchedPage> left_alone;
};

// Judges recorded moved pages that changed, and pages that a member broke or moved.
Steps JudgeMoved(const EndOfPass& end, MovedOutcome& outcome);

// Matches pages without a partner at their address. It looks for their frames in the groups of moved pages (`frames`,
// sorted) and in the records, and joins groups that it finds in two places. Sets `doubles_left` if a frame is still
// recorded twice because not every member was read.
Steps MatchPages(const EndOfPass& end, std::span<const Pfn> frames, bool& doubles_left);

}  // namespace cow::memory
