// The record of one window in a form to work on: for each page the frame at which it was shared, and its holders. The
// ledger stores it as a PackedWindow.
//
// Pure values. Units: pages, numbered within their window. Not thread-safe.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "collectors/base/bitmap.h"
#include "collectors/memory/ledger/member_index.h"
#include "collectors/memory/ledger/page.h"

namespace cow::memory {

// Stands for a shared frame that was dropped and that no two holders' pages show. No page frame has this number.
inline constexpr Pfn kForgottenFrame(procfs::kPagemapFrameMask);

struct WindowRecord {
  // One more frame that other members share at a page.
  struct Extra {
    uint32_t page = 0;
    Pfn frame;
    std::vector<MemberIndex> holders;

    bool IsHeldBy(MemberIndex slot) const { return std::find(holders.begin(), holders.end(), slot) != holders.end(); }
  };
  // A holder whose page is swapped out, migrating or could not be compared.
  struct Away {
    uint32_t page = 0;
    Pfn frame;  // the recorded frame of its group
    MemberIndex slot;
    bool missed = false;  // it or its partner was not read; swap would explain a new frame, this does not
  };

  explicit WindowRecord(size_t pages_per_window) : held(pages_per_window) {}

  // The bitmap of a slot; creates it if there is none.
  BitmapSpan Held(MemberIndex slot) {
    if (slot >= SlotsEnd()) held.Resize(slot.number() + 1);
    return held.At(slot.number());
  }
  BitmapView Held(MemberIndex slot) const { return held.At(slot.number()); }  // it must exist
  // An upper bound: no higher slot has a bitmap.
  MemberIndex SlotsEnd() const { return MemberIndex(held.size()); }
  bool HoldsAnything() const { return !extras.empty() || !away.empty() || held.Any(); }
  // Removes a page's main frame. Returns its holders.
  std::vector<MemberIndex> TakePage(size_t page) {
    std::vector<MemberIndex> holders;
    holders.reserve(SlotsEnd().number());
    for (MemberIndex slot; slot < SlotsEnd(); ++slot) {
      const BitmapSpan bits = Held(slot);
      if (!bits.Test(page)) continue;
      holders.push_back(slot);
      bits.Clear(page);
    }
    frames[page] = Pfn::None();
    return holders;
  }

  std::vector<Pfn> frames;  // main frame per page, or Pfn::None(); empty: dropped for the budget
  WindowBitmaps held;       // one per slot
  std::vector<Extra> extras;
  std::vector<Away> away;
};

}  // namespace cow::memory
