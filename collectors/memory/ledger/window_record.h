// What the ledger knows of one window, laid open to work on: the frame that each page was shared at and who holds it.
// It is kept as a PackedWindow.
//
// Pure values. Units: pages, numbered within their window. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "collectors/memory/ledger/page.h"

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

  // The bitmap of a slot, made where there is none yet.
  std::span<uint64_t> Held(Slot slot);
  std::span<const uint64_t> Held(Slot slot) const { return {held.data() + slot * words, words}; }  // of one that has it
  // No slot from here on has a bitmap.
  Slot SlotsEnd() const { return static_cast<Slot>(held.size() / words); }
  bool HoldsAnything() const;
  // Forgets a page's frame. Returns who held it.
  std::vector<Slot> TakePage(size_t page);

  size_t words;                  // of a bitmap over the window's pages
  std::vector<uint64_t> frames;  // per page, kNoFrame: nothing recorded; empty: dropped for the budget
  std::vector<uint64_t> held;    // per slot one bitmap
  std::vector<Extra> extras;
  std::vector<Away> away;
};

}  // namespace cow::memory
