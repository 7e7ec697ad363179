// What the ledger knows of one window: the frame that each page was shared at and who holds it.
//
// Pure: no file is read. Units: pages, numbered within their window unless said otherwise. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "collectors/memory/page.h"

namespace cow::memory {

// Stands for a frame that was dropped and that nobody's page tells: no page frame has this number.
inline constexpr uint64_t kForgottenFrame = procfs::kPagemapFrameMask;

struct WindowRecord {
  // Further frames shared at a page beside the window's own, by other members.
  struct Extra {
    uint32_t page = 0;
    uint64_t frame = kNoFrame;
    std::vector<Slot> holders;
  };
  // A holder whose page is swapped out or migrating, or could not be compared.
  struct Away {
    uint32_t page = 0;
    uint64_t frame = kNoFrame;  // that its group is recorded at
    Slot slot = 0;
    bool missed = false;  // it or its partner was not read: no reason for another frame, as swapping is
  };

  explicit WindowRecord(size_t pages_per_window) : words((pages_per_window + 63) / 64) {}

  // The bitmap of a slot; empty where it never held anything.
  std::span<const uint64_t> Held(Slot slot) const;
  // The same, made where there is none yet.
  std::span<uint64_t> Held(Slot slot);
  // No slot from here on holds anything.
  Slot SlotsEnd() const { return static_cast<Slot>(held.size() / words); }
  bool HoldsAnything() const;
  // Forgets a page's frame. Returns who held it.
  std::vector<Slot> TakePage(size_t page);
  // Holds a page here, or did before it was away.
  bool Concerns(Slot slot) const;
  // Bytes of heap, those of the tree node that it is kept in included.
  uint64_t MemoryBytes() const;

  size_t words;                  // of a bitmap over the window's pages
  std::vector<uint64_t> frames;  // per page, kNoFrame: nothing recorded; empty: dropped for the budget
  std::vector<uint64_t> held;    // per slot one bitmap
  std::vector<Extra> extras;
  std::vector<Away> away;
  uint64_t bytes = 0;  // charged to the budget
};

// By number of the window.
using WindowRecords = std::map<uint64_t, WindowRecord>;

}  // namespace cow::memory
