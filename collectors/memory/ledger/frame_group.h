// Judges one frame that was shared, from its holders' present frames: which holders kept it, broke it, moved it or
// left.
//
// Pure. The rules for a single page are here (ledger.h lists them).
#pragma once

#include <utility>
#include <vector>

#include "collectors/memory/ledger/frame_facts.h"
#include "collectors/memory/ledger/judgement.h"
#include "collectors/memory/ledger/member_index.h"
#include "collectors/memory/ledger/page.h"

namespace cow::memory {

// One holder of a frame that was shared.
struct FrameHolder {
  enum class State {
    kSame,      // has the recorded frame
    kChanged,   // has another frame
    kReturned,  // was away and has a frame again
    kAway,      // swapped out, migrating, or not read
    kDropped,   // has no anonymous page there now
    kGone,      // the member ended
  };
  MemberIndex slot;
  State state = State::kSame;
  Pfn frame{};  // at present
  PageNumber page;
  bool large = false;   // its present page is in a large folio: not made by copy-on-write
  bool missed = false;  // of kAway: it or its partner was not read
  bool idle = false;    // it has forked no child since its last look, so it cleared no mark
};

struct FrameGroup {
  Pfn frame;  // as recorded
  std::vector<FrameHolder> holders;
  bool swapped_in = false;  // members' pages came back from swap since the last look
};

// The verdict on a group. Points into its holders. Every list names a holder at most once, so no count exceeds the
// number of holders.
struct GroupOutcome {
  using Holders = std::vector<const FrameHolder*>;

  Pfn frame;  // shared by `stay`
  Holders stay;
  Holders away;
  Holders broke;
  Holders broke_unknown;  // one per copy by an unknown member: fewer than changed holders
  std::vector<std::pair<const FrameHolder*, UnshareCause>> unshared;
  const FrameHolder* alone = nullptr;  // the last holder, if the group ended
  bool alone_without_copy = false;
  UnshareCause alone_cause = UnshareCause::kUnknown;
};

// `facts`: flags of the holders' present frames, needed if no holder kept the recorded frame.
GroupOutcome FindOutcome(const FrameGroup& group, const FrameFacts& facts);

}  // namespace cow::memory
