// What the members of a family have in one window of their address space.
//
// Pure values.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "collectors/memory/ledger/judgement.h"
#include "collectors/memory/ledger/page.h"

namespace cow::memory {

// What is known of the forks around a member from its birth until its pages were read. False: it may be so or not.
struct ForkEvidence {
  bool own_child = false;    // its parent forked it, with no process in between
  bool parent_idle = false;  // its parent has forked nobody since
  bool idle = false;         // it has forked nobody

  bool IsComplete() const { return own_child && parent_idle && idle; }
  void Add(const ForkEvidence& other) {
    own_child = own_child || other.own_child;
    parent_idle = parent_idle || other.parent_idle;
    idle = idle || other.idle;
  }
};

// One member's reading of one window.
struct Reading {
  Slot slot = 0;
  const uint64_t* entries = nullptr;  // a window's worth of pagemap entries; zero where the member maps nothing
  bool first_look = false;            // judge also what differs already (never set for members older than the exporter)
  Slot parent = Verdict::kNobody;     // the member that forked it, where that is a member too
  bool is_root = false;
  bool hugetlb = false;  // its mapping here is hugetlb's: copy-on-write copies whole huge pages, and nothing collapses
  // Bitmap: pages whose entries were not read but recalled from the ledger. Null: all were read.
  const uint64_t* recalled = nullptr;
  ForkEvidence forks{};   // of a first look
  bool idle = false;      // it forked nobody since its previous look; set only where Examination::marks_decide
  bool remapped = false;  // its mappings are not those of its look before: it may have moved pages

  bool IsRead(size_t page) const { return recalled == nullptr || ((recalled[page / 64] >> (page % 64)) & 1) == 0; }
  uint64_t RecalledWord(size_t word) const { return recalled == nullptr ? 0 : recalled[word]; }
};

inline constexpr uint32_t kNoReading = ~uint32_t{0};

// Which reading belongs to a slot.
class SlotIndex {
 public:
  explicit SlotIndex(std::span<const Reading> readings) {
    index_.reserve(readings.size());
    for (uint32_t i = 0; i < readings.size(); ++i) {
      if (readings[i].slot >= index_.size()) index_.resize(readings[i].slot + 1, kNoReading);
      index_[readings[i].slot] = i;
    }
  }
  uint32_t Find(Slot slot) const { return slot < index_.size() ? index_[slot] : kNoReading; }

 private:
  std::vector<uint32_t> index_;
};

}  // namespace cow::memory
