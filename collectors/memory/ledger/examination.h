// A window as its members read it, compared with what was recorded: what changed, and what must be asked before it can
// be judged.
//
// Pure: it sees pagemap entries and never a file. Changes nothing of the record, so that a window can be read again as
// often as needed before it is settled. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "collectors/memory/ledger/moved_pages.h"
#include "collectors/memory/ledger/packed_window.h"
#include "collectors/memory/ledger/page.h"
#include "collectors/memory/ledger/reading.h"

namespace cow::memory {

// What went on among the members, or may have, that page-table entries alone do not show.
struct Circumstances {
  bool ksm_in_use = false;  // some member has merged pages: newly shared frames are asked about
  // Pages came back from swap since the look before: a recorded frame may have been given up by all its holders and
  // taken for another page of theirs since, so that finding it proves nothing.
  bool swapped_in = false;
  bool mapped_once_known = true;  // bit 56 can be relied on; else every page may be shared
};

// Pages of a reading that were recalled and that a verdict would take on trust.
struct Doubt {
  uint32_t reading = 0;  // its index
  uint32_t first = 0;    // pages within the window
  uint32_t last = 0;     // the last one itself
};

// What Examine found; buffers are reused from window to window.
struct Examination {
  std::vector<uint64_t> questions;  // frames whose kpageflags are needed before Settle
  std::vector<uint32_t> witnesses;  // indexes of readings to be taken again: pages in `attention` must read the same
  std::vector<uint64_t> attention;  // bitmap: pages that are judged one by one
  std::vector<uint64_t>
      unstable;  // bitmap set by the caller: pages that kept changing under the reads, left for the next pass
  bool marks_decide = false;  // some verdict rests on marks, which a holder's fork since its look before clears
  bool quiet = false;         // nothing changed: Settle has nothing to do
  std::vector<Doubt> doubts;  // to be read, and the window examined anew, before Settle

  // Scratch of the ledger.
  bool swapped_in = false;
  bool any_away = false;  // a bit of some member's `away` is set
  struct Member {
    uint32_t same_as = kNoReading;           // an earlier member that reads the same, whose decoded form this shows
    bool repeated = false;                   // a later member reads the same
    const uint64_t* frames = nullptr;        // AnonFrame per page
    std::span<const uint64_t> anon;          // bitmap: has an anonymous frame
    std::span<const uint64_t> maybe_shared;  // bitmap: and bit 56 is clear
    std::span<const uint64_t> away;          // bitmap: swapped out or migrating
    std::span<const uint64_t> current;       // bitmap: has the candidate frame
    std::vector<uint64_t> storage;           // of all these, where they are its own
  };
  std::vector<Member> members;
  std::vector<uint64_t> candidates;  // per page: the recorded frame, or one that might become it
  std::vector<uint64_t> grouped;     // bitmap: pages with a recorded frame
  std::vector<uint64_t> pairs;       // bitmap: at least two members have the candidate frame
  std::vector<uint64_t> unchanged;   // bitmap, where KSM is in use: still shared, unless KSM made the frame its own
  std::vector<uint64_t> several;     // bitmap: at least two members have an anonymous page
  std::vector<uint64_t> anybody;     // bitmap: a member has an anonymous page
  std::vector<uint64_t> covered;     // bitmap, while members are gone through: done so far
  std::vector<bool> is_witness;      // by reading
  std::vector<uint32_t> unseen;      // children that no completed pass has seen
};

// Compares the readings of one window with its record. Lives for one examination.
class WindowExaminer {
 public:
  // `record`: null where nothing is recorded. `moved`: has pages of the window that are shared between different
  // addresses. `departing`: members that ended.
  WindowExaminer(size_t pages, std::span<const Reading> readings, const PackedWindow* record, const MovedPages& moved,
                 uint64_t window, std::span<const Slot> departing, Examination& examination);

  void Examine(const Circumstances& circumstances, uint64_t zero_frame);

 private:
  void Clear();
  uint32_t FindSame(uint32_t reading) const;
  void DecodeMember(uint32_t reading, uint64_t zero_frame);
  void RecallFrames();
  void RecallDroppedFrames();
  void FindCandidates();
  void FindHolders();
  void FindChanges(uint32_t reading);
  void CompareFirstLooks();
  void CompareHugePages();
  bool IsOwnHugePage(uint32_t reading) const;
  void FindUnseenHolders();
  void AskAboutUnchanged();
  void AskAbout(size_t page, const SlotIndex& index);
  void AskAboutExtra(const WindowRecord::Extra& extra, const SlotIndex& index);
  bool AskAboutHolders(size_t page, uint64_t recorded);
  void AskAboutFirstLooks(size_t page, const SlotIndex& index);
  void AskAboutAll(size_t page);
  void AddWitness(uint32_t reading);

  bool IsUnseenChild(uint32_t reading) const { return readings_[reading].first_look && !readings_[reading].is_root; }
  // Empty where the slot holds nothing.
  std::span<const uint64_t> Held(Slot slot) const;
  // Pages that a member has to itself, as far as the candidates tell.
  uint64_t Unassigned(uint32_t reading, size_t word) const;
  // An earlier member reads the same.
  bool RepeatsAnother(uint32_t reading) const { return e_.members[reading].same_as != kNoReading; }

  size_t pages_;
  size_t words_;
  std::span<const Reading> readings_;
  const PackedWindow* record_;
  const MovedPages& moved_;
  uint64_t window_;
  std::span<const Slot> departing_;
  Examination& e_;
  bool ksm_in_use_ = false;
  bool mapped_once_known_ = true;
  std::vector<uint32_t> holders_;  // readings, ascending, that had one frame in common
};

}  // namespace cow::memory
