// Pages of a family that are shared between different addresses (mremap): matched by frame at the end of a pass.
//
// Pure: no file is read. Page numbers are those of the address space. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "collectors/memory/frame_facts.h"
#include "collectors/memory/judgement.h"
#include "collectors/memory/page.h"
#include "collectors/memory/reading.h"
#include "collectors/memory/window_records.h"

namespace cow::memory {

// What only the whole pass can tell: pages matched by frame at different addresses.
struct MovedSharing {
  int64_t shared_pages = 0;      // process view: private in their window, shared over the family
  int64_t exposure_pages = 0;    // Σ over those frames (holders − 1)
  uint64_t unmatched_pages = 0;  // mapped by somebody who is no member
};

// A holder of a frame that is shared between different addresses.
struct MovedPage {
  uint64_t page = 0;
  Slot slot = 0;
  uint64_t frame = kNoFrame;
  uint64_t now = 0;       // entry read in this pass; zero: nothing there
  bool recalled = false;  // `now` was not read: nothing of the member has changed
};

// A page without a partner at its address although it is mapped more than once.
struct OrphanPage {
  uint64_t frame = kNoFrame;
  uint64_t page = 0;
  Slot slot = 0;
  bool was_shared = false;  // the ledger had it; `cause` tells how the others left
  UnshareCause cause = UnshareCause::kUnknown;
};

class MovedPages {
 public:
  MovedPages(size_t pages_per_window, uint64_t zero_frame) : pages_(pages_per_window), zero_frame_(zero_frame) {}

  // A pass begins: nothing is known yet about any page but those of members that are not read, because nothing of
  // theirs has changed.
  void BeginPass(std::span<const Slot> standing_for);
  // Recorded pages of one window, by page and slot.
  std::span<const MovedPage> In(uint64_t window) const;
  // Takes what a window's readings say of recorded pages.
  void Note(uint64_t window, std::span<const Reading> readings);
  void AddOrphan(const OrphanPage& orphan) { orphans_.push_back(orphan); }

  std::span<const OrphanPage> orphans() const { return orphans_; }
  // Pages that were not read, of frames that another holder has no more: to be confirmed before Finish.
  std::vector<MovedPage> InDoubt() const;
  void Confirm(const MovedPage& page, uint64_t entry);

  // The frames that Finish asks `facts` for, sorted.
  std::vector<uint64_t> Frames() const;
  void AddWindows(std::vector<uint64_t>& windows) const;
  // Calls add(slot, 1) for each recorded page that is in RAM, and not alone there. Between passes.
  void AddSharedPages(const std::function<void(Slot, uint64_t)>& add) const;
  bool empty() const { return moved_.empty(); }
  // The last pass found pages whose partners are nobody's that is known.
  bool has_unmatched() const { return has_unmatched_; }
  size_t MemoryBytes() const;

  // Judges recorded pages, then matches orphans by frame with them, with each other and with what `records` hold, which
  // leaves its window's record. `departing`: members that ended.
  void Finish(const FrameFacts& facts, std::span<const Slot> departing, WindowRecords& records, Judgement& judgement,
              MovedSharing& sharing);

 private:
  using Groups = std::map<uint64_t, std::vector<MovedPage>>;                    // by frame
  using Unmatched = std::unordered_map<uint64_t, std::span<const OrphanPage>>;  // by frame

  // Indexes of a window's first recorded page and of the next window's.
  std::pair<size_t, size_t> RangeOf(uint64_t window) const;
  void JudgeRecorded(const FrameFacts& facts, std::span<const Slot> departing, Judgement& judgement, Groups& groups);
  Unmatched MatchOrphans(const FrameFacts& facts, Judgement& judgement, Groups& groups);
  void MatchRecords(Unmatched& unmatched, WindowRecords& records, Groups& groups, MovedSharing& sharing) const;
  void Record(const Groups& groups, MovedSharing& sharing);

  size_t pages_;
  uint64_t zero_frame_;
  std::vector<MovedPage> moved_;     // sorted by (page, slot)
  std::vector<OrphanPage> orphans_;  // of this pass
  bool has_unmatched_ = false;       // in the last pass
};

}  // namespace cow::memory
