// One window of a family as its members' page tables show it: the input of the ledger.
//
// Pure values.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "collectors/base/bitmap.h"
#include "collectors/memory/ledger/judgement.h"
#include "collectors/memory/ledger/member_index.h"
#include "collectors/memory/ledger/page.h"

namespace cow::memory {

// Evidence about the forks around a member from its birth until its pages were read. A field is true only if that is
// certain.
struct ForkEvidence {
  bool own_child = false;    // its parent forked it directly, with no process in between
  bool parent_idle = false;  // its parent has forked no other child since
  bool idle = false;         // it has forked no child

  bool IsComplete() const { return own_child && parent_idle && idle; }
  void Add(const ForkEvidence& other) {
    own_child = own_child || other.own_child;
    parent_idle = parent_idle || other.parent_idle;
    idle = idle || other.idle;
  }
};

// A moment in the history of forks (process/fork_history.h).
struct ForkMoment {
  uint64_t event = 0;  // number of the latest event
  uint64_t ticks = 0;  // since boot, as in `stat`
};

// One member's entries of one window.
struct Reading {
  MemberIndex slot;
  const PageEntry* entries = nullptr;     // of the window; zero where nothing is mapped
  bool first_look = false;                // also judge existing differences; false for members older than the exporter
  MemberIndex parent = Verdict::kNobody;  // the member that forked it, if its parent is a member
  bool is_root = false;
  bool hugetlb = false;   // a hugetlb mapping: copied in whole huge pages, never collapsed
  BitmapView recalled{};  // pages whose entries come from the record, not the page table; empty: all pages were read
  ForkEvidence forks{};   // used at a first look
  bool idle = false;      // it has forked no child since its last look; set only if `marks_decide`
  bool remapped = false;  // its mappings changed since its last look: pages may have moved

  // True for a child at its first look.
  bool IsNewChild() const { return first_look && !is_root; }
  bool IsRead(size_t page) const { return recalled.empty() || !recalled.Test(page); }
  uint64_t RecalledWord(size_t word) const { return recalled.empty() ? 0 : recalled.Word(word); }
};

inline constexpr uint32_t kNoReading = ~uint32_t{0};

// Finds the reading of a slot.
class ReadingIndex {
 public:
  explicit ReadingIndex(std::span<const Reading> readings) {
    index_.reserve(readings.size());
    for (uint32_t i = 0; i < readings.size(); ++i) {
      if (readings[i].slot.number() >= index_.size()) index_.resize(readings[i].slot.number() + 1, kNoReading);
      index_[readings[i].slot.number()] = i;
    }
  }
  uint32_t Find(MemberIndex slot) const { return slot.number() < index_.size() ? index_[slot.number()] : kNoReading; }

 private:
  std::vector<uint32_t> index_;
};

}  // namespace cow::memory
