#include "collectors/memory/page_judge.h"

#include <algorithm>
#include <cstddef>
#include <optional>
#include <utility>

namespace cow::memory {
namespace {

using State = FrameHolder::State;

bool HoldsSlot(const FrameGroup& group, Slot slot) {
  return std::any_of(group.holders.begin(), group.holders.end(),
                     [slot](const FrameHolder& holder) { return holder.slot == slot; });
}

}  // namespace

PageJudge::PageJudge(const ExaminedWindow& window, WindowRecord& record, MovedPages& moved, Judgement& judgement)
    : window_(window), record_(record), moved_(moved), judgement_(judgement), index_(window.readings) {
  huge_.reserve(window.readings.size());
  for (const Reading& reading : window.readings) {
    huge_.push_back(!reading.hugetlb && IsHugeRun(std::span(reading.entries, record.frames.size())));
  }
}

void PageJudge::Judge(size_t page) {
  page_ = page;
  groups_.clear();
  counted_.clear();
  left_alone_.clear();
  TakeGroups();
  std::vector<FrameGroup> kept;
  for (const FrameGroup& group : groups_) Settle(group, kept);
  const std::vector<uint32_t> single = Pair(kept);
  for (uint32_t r = 0; r < window_.readings.size(); ++r) {
    if (IsUnseenChild(r) && FrameNow(r) != kNoFrame) FirstLook(r, kept);
  }
  AddOrphans(single);
  PutGroups(kept);
}

uint64_t PageJudge::FrameNow(uint32_t reading) const {
  const uint64_t frame = window_.examination.members[reading].frames[page_];
  return frame != kNoFrame && window_.facts.IsKsm(frame) ? kNoFrame : frame;
}

FrameHolder PageJudge::Describe(Slot slot, uint64_t recorded, bool was_away) const {
  FrameHolder holder{slot, State::kSame, kNoFrame, PageNumber(), false, false};
  const uint32_t reading = index_.Find(slot);
  if (std::find(window_.departing.begin(), window_.departing.end(), slot) != window_.departing.end()) {
    holder.state = State::kGone;
  } else if (reading == kNoReading) {
    holder.state = State::kAway;
    holder.missed = !was_away;
  } else {
    holder.frame = FrameNow(reading);
    holder.huge_run = huge_[reading];
    if (holder.frame != kNoFrame) {
      const State elsewhere = was_away ? State::kReturned : State::kChanged;
      holder.state = holder.frame == recorded ? State::kSame : elsewhere;
    } else {
      holder.state = IsAway(window_.readings[reading].entries[page_]) ? State::kAway : State::kDropped;
    }
  }
  return holder;
}

void PageJudge::AddHolder(uint64_t frame, Slot slot, bool was_away) {
  auto group = std::find_if(groups_.begin(), groups_.end(), [&](const FrameGroup& g) { return g.frame == frame; });
  if (group == groups_.end()) {
    group = groups_.insert(groups_.end(), FrameGroup{frame, {}, window_.examination.swapped_in});
    group->holders.reserve(window_.readings.size());
  }
  group->holders.push_back(Describe(slot, frame, was_away));
}

void PageJudge::TakeGroups() {
  const uint64_t frame = record_.frames[page_];
  if (frame != kNoFrame) {
    for (const Slot slot : record_.TakePage(page_)) AddHolder(frame, slot, false);
  }
  for (const WindowRecord::Extra& extra : record_.extras) {
    if (extra.page != page_) continue;
    for (const Slot slot : extra.holders) AddHolder(extra.frame, slot, false);
  }
  for (const WindowRecord::Away& away : record_.away) {
    if (away.page == page_) AddHolder(away.frame, away.slot, !away.missed);
  }
  std::erase_if(record_.extras, [&](const WindowRecord::Extra& extra) { return extra.page == page_; });
  std::erase_if(record_.away, [&](const WindowRecord::Away& away) { return away.page == page_; });
}

void PageJudge::Settle(const FrameGroup& group, std::vector<FrameGroup>& kept) {
  const GroupOutcome outcome = JudgeGroup(group, window_.facts);
  for (const FrameHolder* breaker : outcome.broke) {
    std::vector<Slot> heirs;
    heirs.reserve(group.holders.size());
    for (const FrameHolder& holder : group.holders) {
      if (holder.slot != breaker->slot && holder.state != State::kDropped) heirs.push_back(holder.slot);
    }
    judgement_.AddBreak(breaker->slot, PageNumber(), true, heirs);
    counted_.emplace_back(breaker->slot, group.frame);
  }
  for (const FrameHolder* holder : outcome.broke_unknown) {
    judgement_.AddBreakOfUnknownSide(holder->slot, PageNumber());
  }
  for (const auto& [holder, cause] : outcome.unshared) judgement_.AddUnshared(holder->slot, PageNumber(), cause);
  if (outcome.alone != nullptr && outcome.alone_without_copy) {
    const Slot slot = outcome.alone->slot;
    if (TestBit(window_.examination.members[index_.Find(slot)].maybe_shared, page_)) {
      left_alone_.emplace_back(slot, outcome.alone_cause);  // its partner may be at another address
    } else {
      judgement_.AddUnshared(slot, PageNumber(), outcome.alone_cause);
    }
  }
  if (outcome.stay.size() + outcome.away.size() < 2) return;
  FrameGroup next{outcome.frame, {}};
  next.holders.reserve(outcome.stay.size() + outcome.away.size());
  for (const FrameHolder* holder : outcome.stay) next.holders.push_back(*holder);
  for (const FrameHolder* holder : outcome.away) {
    next.holders.push_back(*holder);
    if (holder->state == State::kChanged) next.holders.back().missed = true;
    next.holders.back().state = State::kAway;
  }
  kept.push_back(std::move(next));
}

// Joins members to groups of their frame. Returns the readings that belong to none.
std::vector<uint32_t> PageJudge::JoinGroups(std::vector<FrameGroup>& kept) const {
  std::vector<uint32_t> single;
  for (uint32_t r = 0; r < window_.readings.size(); ++r) {
    const uint64_t frame = FrameNow(r);
    const Slot slot = window_.readings[r].slot;
    if (frame == kNoFrame) continue;
    if (std::any_of(kept.begin(), kept.end(), [slot](const FrameGroup& group) { return HoldsSlot(group, slot); }))
      continue;
    const auto group =
        std::find_if(kept.begin(), kept.end(), [frame](const FrameGroup& g) { return g.frame == frame; });
    if (group != kept.end()) {
      group->holders.push_back(Describe(slot, frame, false));
    } else {
      single.push_back(r);
    }
  }
  return single;
}

// And makes groups of those that share an unrecorded frame. Returns the readings that stay single.
std::vector<uint32_t> PageJudge::Pair(std::vector<FrameGroup>& kept) const {
  std::vector<uint32_t> single = JoinGroups(kept);
  for (size_t i = 0; i < single.size();) {
    const uint64_t frame = FrameNow(single[i]);
    const auto same = [&](uint32_t r) { return FrameNow(r) == frame; };
    if (std::count_if(single.begin() + static_cast<std::ptrdiff_t>(i), single.end(), same) < 2) {
      ++i;
      continue;
    }
    FrameGroup group{frame, {}};
    for (const uint32_t r : single) {
      if (same(r)) group.holders.push_back(Describe(window_.readings[r].slot, frame, false));
    }
    kept.push_back(std::move(group));
    std::erase_if(single, same);
  }
  return single;
}

// With whom a member shares a page at its first look.
struct PageJudge::Relations {
  std::vector<Slot> holders;      // itself included
  bool origin = false;            // with somebody else than those it forked itself, which says nothing of its origin
  bool origin_was_seen = false;   // and one of them was there at the last look
  bool descendants_only = false;  // with those it forked itself and nobody else
  bool forked = false;            // the kernel's mark says that the page comes from a fork
};

bool PageJudge::HasChildren(Slot slot) const {
  return std::any_of(window_.readings.begin(), window_.readings.end(),
                     [slot](const Reading& other) { return other.parent == slot; });
}

PageJudge::Relations PageJudge::RelationsOf(uint32_t reading, const std::vector<FrameGroup>& kept) const {
  Relations relations;
  const Slot slot = window_.readings[reading].slot;
  relations.holders.push_back(slot);
  const auto group = std::find_if(kept.begin(), kept.end(), [slot](const FrameGroup& g) { return HoldsSlot(g, slot); });
  if (group != kept.end()) {
    for (const FrameHolder& holder : group->holders) {
      if (holder.slot == slot) continue;
      relations.holders.push_back(holder.slot);
      const uint32_t other = index_.Find(holder.slot);
      if (other == kNoReading || !IsChildOf(other, slot)) relations.origin = true;
      if (other == kNoReading || !window_.readings[other].first_look) relations.origin_was_seen = true;
    }
  }
  relations.descendants_only = group != kept.end() && !relations.origin;
  // Its own forks mark a page of its own as well, also where those who shared it have left it since.
  const bool maybe_by_own_fork = !relations.origin && HasChildren(slot);
  relations.forked = !window_.facts.IsExclusive(FrameNow(reading)).value_or(true) && !maybe_by_own_fork;
  return relations;
}

void PageJudge::FirstLook(uint32_t reading, const std::vector<FrameGroup>& kept) {
  const Relations relations = RelationsOf(reading, kept);
  const uint32_t parent = index_.Find(window_.readings[reading].parent);
  if (parent != kNoReading && FrameNow(parent) != kNoFrame) {
    if (FrameNow(parent) != FrameNow(reading)) CompareWithParent(reading, parent, relations);
  } else if (!relations.origin) {
    CompareWithRelatives(reading, parent == kNoReading, relations);
  }
}

void PageJudge::CompareWithParent(uint32_t reading, uint32_t parent, const Relations& relations) {
  const Slot slot = window_.readings[reading].slot;
  const Slot parent_slot = window_.readings[parent].slot;
  const uint64_t frame = FrameNow(reading);
  const bool exclusive = window_.facts.IsExclusive(frame).value_or(false);
  const bool parent_forked = !window_.facts.IsExclusive(FrameNow(parent)).value_or(true);
  if (relations.forked) {
    // A parent that shared it with the one seen before is in the record, and judged by it. Another never had it: the
    // member is somebody else's fork, adopted by this one.
    if (!relations.origin_was_seen && !Counted(parent_slot, frame)) {
      judgement_.AddBreak(parent_slot, PageNumber(), false, relations.holders);
    }
  } else if (exclusive && parent_forked && !relations.descendants_only) {
    judgement_.AddBreak(slot, PageNumber(), false, std::span(&parent_slot, 1));
  } else if (!relations.origin) {
    judgement_.AddUnattributed(slot, PageNumber());
  }
}

// Without its parent's page, its relatives' tell: one that has the original, or none.
void PageJudge::CompareWithRelatives(uint32_t reading, bool parent_unread, const Relations& relations) {
  const Slot slot = window_.readings[reading].slot;
  bool relative_present = false;
  std::vector<Slot> originals;
  for (uint32_t other = 0; other < window_.readings.size(); ++other) {
    const uint64_t other_frame = FrameNow(other);
    if (other == reading || other_frame == kNoFrame || IsChildOf(other, slot)) continue;
    relative_present = true;
    if (!window_.facts.IsExclusive(other_frame).value_or(true)) originals.push_back(window_.readings[other].slot);
  }
  if (!relative_present || relations.forked) return;
  const bool exclusive = window_.facts.IsExclusive(FrameNow(reading)).value_or(false);
  if (parent_unread && exclusive && !originals.empty() && !relations.descendants_only) {
    judgement_.AddBreak(slot, PageNumber(), false, originals);
  } else {
    judgement_.AddUnattributed(slot, PageNumber());
  }
}

// A break of this frame by this member is in the judgement already; else notes it.
bool PageJudge::Counted(Slot slot, uint64_t frame) {
  const std::pair key(slot, frame);
  if (std::find(counted_.begin(), counted_.end(), key) != counted_.end()) return true;
  counted_.push_back(key);
  return false;
}

void PageJudge::AddOrphans(const std::vector<uint32_t>& single) {
  for (const uint32_t r : single) {
    if (!TestBit(window_.examination.members[r].maybe_shared, page_)) continue;
    OrphanPage orphan{FrameNow(r), PageNumber(), window_.readings[r].slot, false, UnshareCause::kUnknown};
    for (const auto& [slot, cause] : left_alone_) {
      if (slot != orphan.slot) continue;
      orphan.was_shared = true;
      orphan.cause = cause;
    }
    moved_.AddOrphan(orphan);
  }
}

void PageJudge::PutGroups(const std::vector<FrameGroup>& kept) {
  const FrameGroup* main = nullptr;
  const auto present = [](const FrameGroup& group) {
    return std::count_if(group.holders.begin(), group.holders.end(),
                         [](const FrameHolder& holder) { return holder.state != State::kAway; });
  };
  for (const FrameGroup& group : kept) {
    if (main == nullptr || present(group) > present(*main)) main = &group;
  }
  for (const FrameGroup& group : kept) {
    WindowRecord::Extra extra{static_cast<uint32_t>(page_), group.frame, {}};
    for (const FrameHolder& holder : group.holders) {
      if (holder.state == State::kAway) {
        record_.away.push_back({static_cast<uint32_t>(page_), group.frame, holder.slot, holder.missed});
      } else if (&group == main) {
        SetBit(record_.Held(holder.slot), page_);
      } else {
        extra.holders.push_back(holder.slot);
      }
    }
    if (&group == main) {
      record_.frames[page_] = group.frame;
    } else if (!extra.holders.empty()) {
      record_.extras.push_back(std::move(extra));
    }
  }
}

}  // namespace cow::memory
