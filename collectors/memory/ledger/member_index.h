// Numbers the members of a family.
//
// Pure values, safe in any thread.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace cow::memory {

// A member's slot: its number in the ledger of its family. Small, dense, and reused after the member has left. A type
// of its own, because members are also counted, and numbered by their readings. number() is for vectors by slot and for
// packed storage.
class MemberIndex {
 public:
  constexpr MemberIndex() = default;
  explicit constexpr MemberIndex(size_t number) : number_(static_cast<uint32_t>(number)) {}
  // No member has this one.
  static constexpr MemberIndex None() { return MemberIndex(~uint32_t{0}); }

  constexpr size_t number() const { return number_; }
  constexpr MemberIndex Next() const { return MemberIndex(number() + 1); }
  constexpr MemberIndex& operator++() {
    ++number_;
    return *this;
  }

  // NOLINTNEXTLINE(modernize-use-nullptr): mistaken by clang-tidy 14
  friend constexpr auto operator<=>(MemberIndex, MemberIndex) = default;

 private:
  uint32_t number_ = 0;
};

class MemberSet {
 public:
  MemberSet() = default;
  explicit MemberSet(std::span<const MemberIndex> slots) {
    for (const MemberIndex slot : slots) Add(slot);
  }

  bool Has(MemberIndex slot) const { return slot.number() < has_.size() && has_[slot.number()]; }
  void Add(MemberIndex slot) {
    if (slot.number() >= has_.size()) has_.resize(slot.number() + 1);
    has_[slot.number()] = true;
  }
  void Clear() { has_.clear(); }

 private:
  std::vector<bool> has_;  // by slot
};

}  // namespace cow::memory
