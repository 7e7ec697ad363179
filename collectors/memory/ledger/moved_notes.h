// What the windows of a pass noted for its end: pages whose partner may be at another address.
//
// Pure values.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <tuple>
#include <utility>
#include <vector>

#include "collectors/memory/ledger/judgement.h"
#include "collectors/memory/ledger/page.h"

namespace cow::memory {

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

struct MovedNotes {
  // A holder at `page` has another frame now: it broke the page, or moved it and has another one in its place.
  struct BreakOrMove {
    uint64_t frame = kNoFrame;
    uint64_t page = 0;
    Slot slot = 0;
    uint32_t heirs_begin = 0;
    uint32_t heirs_end = 0;
  };

  std::vector<OrphanPage> orphans;
  uint64_t uncounted_orphans = 0;  // for which there was no memory
  std::vector<BreakOrMove> breaks_or_moves;
  std::vector<Slot> heirs;     // of these
  std::vector<bool> remapped;  // by slot: its mappings changed since its look before

  bool IsRemapped(Slot slot) const { return slot < remapped.size() && remapped[slot]; }
  // The slot has an orphan of this frame. They are sorted.
  bool HasOrphan(uint64_t frame, Slot slot) const {
    const auto first = std::lower_bound(orphans.begin(), orphans.end(), std::pair(frame, slot),
                                        [](const OrphanPage& orphan, const std::pair<uint64_t, Slot>& wanted) {
                                          return std::pair(orphan.frame, orphan.slot) < wanted;
                                        });
    return first != orphans.end() && first->frame == frame && first->slot == slot;
  }
  std::span<const Slot> HeirsOf(const BreakOrMove& each) const {
    return std::span(heirs).subspan(each.heirs_begin, each.heirs_end - each.heirs_begin);
  }
  uint64_t MemoryBytes() const {
    return orphans.capacity() * sizeof(OrphanPage) + breaks_or_moves.capacity() * sizeof(BreakOrMove) +
           heirs.capacity() * sizeof(Slot);
  }
};

// What only the whole pass can tell: pages matched by frame at different addresses.
struct MovedSharing {
  int64_t shared_pages = 0;      // process view: private in their window, shared over the family
  int64_t exposure_pages = 0;    // Σ over those frames (holders − 1)
  uint64_t unmatched_pages = 0;  // a process outside the family maps them
  // A partner may be at an address that was not read in this pass: only a pass over all members tells.
  bool must_read_all = false;
};

}  // namespace cow::memory
