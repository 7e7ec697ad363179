// The latest look at each member of a family in each window: a fingerprint and tallies. An equal fingerprint proves
// that nothing has changed since, without a comparison page by page. The tallies stand for a member that is not read. A
// window has looks at exactly the members in its latest report. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "collectors/memory/ledger/ledger_budget.h"
#include "collectors/memory/ledger/member_index.h"
#include "collectors/memory/ledger/page.h"

namespace cow::memory {

// Sums over the pagemap entries of one mapping within one window, in base pages.
struct SegmentTally {
  uint32_t anon = 0;           // present, anonymous; the zero page is not in it
  uint32_t anon_shared = 0;    // the part shared with another member at this address
  uint32_t anon_multiple = 0;  // the part with bit 56 clear, the only sign of sharing if frames are hidden
  uint32_t zero_base = 0;
  uint32_t zero_huge = 0;   // base pages mapped by the huge zero page
  uint32_t cache_once = 0;  // page cache or shared memory, mapped exactly once
  uint32_t cache_more = 0;  // and mapped more than once
  uint32_t swapped = 0;
  uint32_t huge_pmd = 0;  // base pages mapped by a PMD, the zero page's not in it

  uint64_t Present() const { return uint64_t{anon} + zero_base + zero_huge + cache_once + cache_more; }
  bool operator==(const SegmentTally&) const = default;
  bool operator<(const SegmentTally& other) const {
    const auto all = [](const SegmentTally& t) {
      return std::tie(t.anon, t.anon_shared, t.anon_multiple, t.zero_base, t.zero_huge, t.cache_once, t.cache_more,
                      t.swapped, t.huge_pmd);
    };
    return all(*this) < all(other);
  }
};

// Returns the fingerprint of a window's entries, never 0. Different entries have equal fingerprints with a probability
// of 2⁻⁶⁴.
uint64_t FingerprintOf(std::span<const PageEntry> entries);
// Adds a number to the fingerprint.
uint64_t MixFingerprint(uint64_t fingerprint, uint64_t number);

class Looks {
 public:
  // Most looks have one of a few lists of tallies; each list is stored once.
  using Shared = std::map<std::vector<SegmentTally>, uint64_t>;  // how many looks have it
  struct Look {
    uint64_t fingerprint = 0;  // 0: to be looked at again whatever it shows
    Shared::iterator tallies;
    bool known = false;
  };

  // `budget` must outlive this object; null: no limit.
  explicit Looks(LedgerBudget* budget = nullptr) : charge_(budget, MemoryPurpose::kLooks) {}
  Looks(const Looks&) = delete;
  Looks& operator=(const Looks&) = delete;

  // Returns 0 if there is no look, or if the window must be compared even if it has not changed.
  uint64_t Fingerprint(WindowIndex window, MemberIndex slot) const {
    const Look* look = Find(window, slot);
    return look == nullptr ? 0 : look->fingerprint;
  }
  bool Has(WindowIndex window, MemberIndex slot) const { return Find(window, slot) != nullptr; }
  // Returns one tally per mapping of the member in the window, in ascending order. anon_shared is 0: the ledger knows
  // it. Empty if there is no look. Valid until the next call of Store or Retain.
  std::span<const SegmentTally> Tallies(WindowIndex window, MemberIndex slot) const {
    const Look* look = Find(window, slot);
    return look == nullptr ? std::span<const SegmentTally>() : look->tallies->first;
  }
  void Store(WindowIndex window, MemberIndex slot, uint64_t fingerprint, std::span<const SegmentTally> tallies);

  // Forgets the looks of the window at members that are not in `slots`.
  void Retain(WindowIndex window, std::span<const MemberIndex> slots);
  void Clear();

  // Returns all looks of a window, by slot. Valid until the next call of Store or Retain.
  std::span<const Look> At(WindowIndex window) const;
  // Returns the number of members with a look in the window.
  size_t Count(WindowIndex window) const;

  // Adds the anonymous pages of each member's looks to `pages`, by slot. Grows `pages` if needed.
  void AddAnonPages(std::vector<uint64_t>& pages) const;
  // Returns the windows with looks, unordered.
  std::vector<WindowIndex> Windows() const;
  // Returns the heap memory of this object.
  size_t MemoryBytes() const;
  // Books the memory with the budget. Call it at the end of a pass.
  void Book() { charge_.Set(windows_.empty() ? 0 : MemoryBytes()); }

 private:
  const Look* Find(WindowIndex window, MemberIndex slot) const;  // null if there is no look
  void Drop(Look& look);

  std::unordered_map<WindowIndex, std::vector<Look>> windows_;  // by slot
  Shared shared_;
  MemoryCharge charge_;
};

}  // namespace cow::memory
