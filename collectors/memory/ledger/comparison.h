// Compares the readings of a window with its record: finds the changes, and the facts and rereads that verdicts need.
//
// Pure: sees pagemap entries, never a file, and does not change the record. A window can be read and compared again
// until its verdicts are committed. Units: pages, numbered within their window. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "collectors/base/bitmap.h"
#include "collectors/memory/ledger/member_index.h"
#include "collectors/memory/ledger/moved_pages.h"
#include "collectors/memory/ledger/packed_window.h"
#include "collectors/memory/ledger/page.h"
#include "collectors/memory/ledger/reading.h"

namespace cow::memory {

// Conditions of a pass that affect the comparison and that page-table entries do not show.
struct Circumstances {
  bool ksm_in_use = false;  // a member has merged pages: ask about newly shared frames
  // Pages came back from swap since the last look. All holders may have freed a recorded frame, and the kernel may have
  // reused it for another of their pages, so an unchanged PFN proves nothing.
  bool swapped_in = false;
  bool mapped_once_known = true;  // bit 56 is reliable; if not, any page may be shared
};

// A range of recalled pages that must be read before a verdict may rest on them.
struct Doubt {
  uint32_t reading = 0;  // index in the readings
  uint32_t first = 0;    // page within the window
  uint32_t last = 0;     // inclusive
};

// The result of a comparison. Buffers are reused from window to window.
struct Comparison {
  std::vector<Pfn> questions;       // frames whose kpageflags are needed before Commit
  std::vector<uint32_t> witnesses;  // indexes of readings to repeat: `attention` pages must be stable
  WindowBitmap attention;           // pages to judge one by one
  WindowBitmap unstable;            // set by the caller: pages left for the next pass
  bool marks_decide = false;        // a verdict rests on marks, which a holder's fork clears
  bool quiet = false;               // nothing changed: Commit has nothing to do
  std::vector<Doubt> doubts;        // read these and compare again before Commit

  // Internal to the ledger.
  bool swapped_in = false;
  bool any_away = false;  // a member's `away` has a bit set
  struct Entries {
    const Pfn* frames = nullptr;  // AnonFrame per page
    BitmapView anon;              // has an anonymous frame
    BitmapView maybe_shared;      // and bit 56 is clear
    BitmapView away;              // swapped out or migrating
    BitmapView current;           // has the candidate frame
  };
  struct Member : Entries {
    uint32_t same_as = kNoReading;  // earlier member with equal entries, which owns the bitmaps
    bool repeated = false;          // a later member has equal entries
    // Storage of the above, if same_as is kNoReading.
    std::vector<Pfn> own_frames;
    WindowBitmaps own_bitmaps;
  };
  std::vector<Member> members;
  std::vector<Pfn> candidates;   // per page: the recorded frame, else a possible shared frame
  WindowBitmap grouped;          // pages with a recorded frame
  WindowBitmap pairs;            // at least two members have the candidate frame
  WindowBitmap unchanged;        // if KSM is in use: still shared unless merged
  WindowBitmap two_anon;         // at least two members have an anonymous page
  WindowBitmap any_anon;         // a member has an anonymous page
  WindowBitmap covered;          // pages done, while iterating over members
  std::vector<bool> is_witness;  // by reading
  std::vector<uint32_t> unseen;  // readings of children at their first look
};

// A window and what is known about it.
struct WindowToCompare {
  size_t pages = 0;
  WindowIndex window;
  std::span<const Reading> readings;
  const PackedWindow* record = nullptr;    // null if nothing is recorded
  const MovedPages& moved;                 // has the pages of the window that are shared with other addresses
  std::span<const MemberIndex> departing;  // members that ended
  Pfn zero_frame;
};

// Makes one comparison.
void CompareWindow(const WindowToCompare& window, const Circumstances& circumstances, Comparison& comparison);

// Finds the recalled pages that must be read before a window can be judged: sets `comparison.doubts` from its other
// fields. `record`: null if nothing is recorded.
//
// If one holder lost a page, the others still share it if one of them is read and has it: one more read is enough. All
// holders are read if a member was read that has the recorded frame mapped once. All members are read if a page has
// several frames or an absent holder, if the frames were dropped, or if a child at its first look has a page that its
// parent lacks.
void FindDoubts(const PackedWindow* record, std::span<const Reading> readings, size_t pages, Comparison& comparison);

}  // namespace cow::memory
