// The holders of one frame that was shared, seen again: who still has it, who broke it, who merely moved or left.
//
// Pure; this is where the rules of a single page are (ledger.h lists them).
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "collectors/memory/frame_facts.h"
#include "collectors/memory/judgement.h"
#include "collectors/memory/page.h"

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
  bool huge_run = false;      // its window is one huge page now
  bool missed = false;        // of kAway: because of a look that was not taken
};

struct FrameGroup {
  uint64_t frame = kNoFrame;  // as recorded
  std::vector<FrameHolder> holders;
  bool swapped_in = false;  // pages of the members came back from swap meanwhile
};

// What becomes of a group. Points into its holders.
struct GroupOutcome {
  uint64_t frame = kNoFrame;  // that `stay` share
  std::vector<const FrameHolder*> stay;
  std::vector<const FrameHolder*> away;
  std::vector<const FrameHolder*> broke;
  const FrameHolder* broke_unknown = nullptr;  // any one of those among whom it can't be told
  uint64_t unknown_breaks = 0;
  std::vector<std::pair<const FrameHolder*, UnshareCause>> unshared;
  const FrameHolder* alone = nullptr;  // the last one, where the group ended
  bool alone_without_copy = false;
  UnshareCause alone_cause = UnshareCause::kUnknown;
};

// `facts`: flags of the frames that the holders have now, for where nobody kept the recorded one.
GroupOutcome JudgeGroup(const FrameGroup& group, const FrameFacts& facts);

}  // namespace cow::memory
