// The holders of one frame that was shared, seen again: who still has it, who broke it, who merely moved or left.
//
// Pure; this is where the rules of a single page are (ledger.h lists them).
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "collectors/memory/ledger/frame_facts.h"
#include "collectors/memory/ledger/judgement.h"
#include "collectors/memory/ledger/page.h"

namespace cow::memory {

// One member's part in a frame that was shared.
struct FrameHolder {
  enum class State {
    kSame,      // still has the frame
    kChanged,   // has another one
    kReturned,  // was away, has a frame again
    kAway,      // swapped out, migrating, or not read
    kDropped,   // has nothing there now, or no anonymous page
    kGone,      // the member ended
  };
  Slot slot = 0;
  State state = State::kSame;
  uint64_t frame = kNoFrame;  // now
  uint64_t page = 0;          // number of its virtual page
  bool large = false;         // its page is part of a large folio now: no copy-on-write made it
  bool missed = false;        // of kAway: because of a look that was not taken
  bool idle = false;          // it forked nobody since its previous look: no fork of its own cleared the mark since
};

struct FrameGroup {
  uint64_t frame = kNoFrame;  // as recorded
  std::vector<FrameHolder> holders;
  bool swapped_in = false;  // pages of the members came back from swap meanwhile
};

// What becomes of a group. Points into its holders. Every list names each holder once at most, so no count can exceed
// the number of holders.
struct GroupOutcome {
  using Holders = std::vector<const FrameHolder*>;

  uint64_t frame = kNoFrame;  // that `stay` share
  Holders stay;
  Holders away;
  Holders broke;
  Holders broke_unknown;  // one entry per copy whose maker is unknown: fewer than the holders that have other frames
  std::vector<std::pair<const FrameHolder*, UnshareCause>> unshared;
  const FrameHolder* alone = nullptr;  // the last one, where the group ended
  bool alone_without_copy = false;
  UnshareCause alone_cause = UnshareCause::kUnknown;
};

// `facts`: flags of the frames that the holders have now, for where nobody kept the recorded one.
GroupOutcome JudgeGroup(const FrameGroup& group, const FrameFacts& facts);

}  // namespace cow::memory
