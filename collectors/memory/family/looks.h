// What each member of a family showed in each window at the latest look: a fingerprint, to know without a comparison
// page by page that nothing changed since, and the tallies of its mappings there, which stand for it while it is not
// read again. Whoever has a look in a window was shown there when the window was shown last, nobody else.
// Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <unordered_map>
#include <vector>

#include "collectors/memory/family/segment_tally.h"
#include "collectors/memory/ledger/ledger_budget.h"
#include "collectors/memory/ledger/member_index.h"
#include "collectors/memory/ledger/page.h"

namespace cow::memory {

// Of a window's entries: equal entries have equal fingerprints, never 0; others differ but for one chance in 2⁶⁴.
uint64_t FingerprintOf(std::span<const PageEntry> entries);
// The fingerprint with one more number in it.
uint64_t MixFingerprint(uint64_t fingerprint, uint64_t number);

class Looks {
 public:
  // Few lists of tallies stand for most looks: they are kept once.
  using Shared = std::map<std::vector<SegmentTally>, uint64_t>;  // how many looks have it
  struct Look {
    uint64_t fingerprint = 0;  // 0: to be looked at again whatever it shows
    Shared::iterator tallies;
    bool known = false;
  };

  // `budget` outlives it; null: no limit.
  explicit Looks(LedgerBudget* budget = nullptr) : charge_(budget, MemoryPurpose::kLooks) {}
  Looks(const Looks&) = delete;
  Looks& operator=(const Looks&) = delete;

  // 0: never looked at, or to be looked at again whatever it shows.
  uint64_t Fingerprint(WindowIndex window, MemberIndex slot) const;
  bool Has(WindowIndex window, MemberIndex slot) const;
  // One per mapping of the member in the window, in ascending order; without anon_shared, which the ledger tells.
  // Empty where nothing is known. Valid until the next call of Store or Retain.
  std::span<const SegmentTally> Tallies(WindowIndex window, MemberIndex slot) const;
  void Store(WindowIndex window, MemberIndex slot, uint64_t fingerprint, std::span<const SegmentTally> tallies);

  // Forgets those of the window who are not among `slots`: they were not shown there this time.
  void Retain(WindowIndex window, std::span<const MemberIndex> slots);
  void Clear();

  // All looks of a window, by slot. Valid until the next call of Store or Retain.
  std::span<const Look> At(WindowIndex window) const;
  // How many members' looks stand for the window.
  size_t Count(WindowIndex window) const;

  // Adds, at each slot's place, the anonymous pages of all its looks; `pages` grows as needed.
  void AddAnonPages(std::vector<uint64_t>& pages) const;
  // Windows that a member maps, unordered.
  std::vector<WindowIndex> Windows() const;
  // Bytes of heap that all this takes.
  size_t MemoryBytes() const;
  // At the end of a pass: tells the budget what it takes.
  void Book() { charge_.Set(windows_.empty() ? 0 : MemoryBytes()); }

 private:
  void Drop(Look& look);

  std::unordered_map<WindowIndex, std::vector<Look>> windows_;  // by slot
  Shared shared_;
  MemoryCharge charge_;
};

}  // namespace cow::memory
