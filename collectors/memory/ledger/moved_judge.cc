#include "collectors/memory/ledger/moved_judge.h"

#include <algorithm>

#include "collectors/memory/ledger/recorded_frames.h"
#include "collectors/memory/ledger/window_record.h"

namespace cow::memory {
namespace {

// Adds to `taken` the pairs of this frame whose slot holds it. `pairs` is sorted.
template <class HoldsFrame>
void TakeWhere(std::span<const std::pair<Pfn, MemberIndex>> pairs, Pfn frame,
               std::vector<std::pair<Pfn, MemberIndex>>& taken, HoldsFrame&& holds) {
  for (auto each = std::lower_bound(pairs.begin(), pairs.end(), std::pair(frame, MemberIndex()));
       each != pairs.end() && each->first == frame; ++each) {
    if (holds(each->second)) taken.push_back(*each);
  }
}

}  // namespace

MovedJudge::MovedJudge(size_t pages_per_window, Pfn zero_frame, const MovedNotes& notes, const FrameFacts& facts,
                       const WindowRecords& records, MovedBlocks& blocks, Judgement& judgement)
    : pages_(pages_per_window),
      zero_frame_(zero_frame),
      notes_(notes),
      facts_(facts),
      records_(records),
      blocks_(blocks),
      judgement_(judgement) {}

Steps MovedJudge::JudgeAll(std::span<const MemberIndex> departing) {
  co_await FindMovedGroups();
  co_await SeparateBreaksFromMoves();
  co_await UpdateGroups(departing);
}

bool MovedJudge::HasElsewhere(Pfn frame, MemberIndex slot) const {
  return notes_.HasUnmatched(frame, slot) ||
         std::binary_search(moved_groups_.begin(), moved_groups_.end(), std::pair(frame, slot));
}

Steps MovedJudge::FindLostFrames(std::vector<FrameOfSlot>& lost) {
  Pace pace;
  for (const MovedNotes::BreakOrMove& each : notes_.breaks_or_moves) {
    if (each.frame != kForgottenFrame && !notes_.HasUnmatched(each.frame, each.slot))
      lost.emplace_back(each.frame, each.slot);
    if (pace.IsDue(8)) co_await Rest();
  }
  for (const MovedBlock* block : blocks_.All()) {
    for (const MovedBlock::Change& change : block->changes()) {
      const MemberIndex slot = block->SlotOf(change.holder);
      if (!notes_.remapped.Has(slot)) continue;
      if (AnonFrame(change.entry, zero_frame_) != Pfn::None()) lost.emplace_back(block->FrameAt(change.page), slot);
    }
    if (pace.IsDue(1 + block->changes().size())) co_await Rest();
  }
  co_await SortUniqueInSteps(lost);
}

Steps MovedJudge::FindUnseen(std::span<const MemberIndex> slots) {
  Pace pace;
  unseen_.Clear();
  for (const auto& [window, record] : records_.all()) {
    if (record.has_frames()) continue;
    for (const MemberIndex slot : slots) {
      if (!unseen_.Has(slot) && record.Concerns(slot)) unseen_.Add(slot);
    }
    if (pace.IsDue(slots.size() * 8)) co_await Rest();
  }
}

Steps MovedJudge::FindMovedGroups() {
  std::vector<FrameOfSlot> lost;
  co_await FindLostFrames(lost);
  if (lost.empty()) co_return;
  std::vector<Pfn> frames;
  std::vector<MemberIndex> slots;
  for (const auto& [frame, slot] : lost) {
    if (frames.empty() || frames.back() != frame) frames.push_back(frame);
    slots.push_back(slot);
  }
  co_await SortUniqueInSteps(slots);
  co_await FindUnseen(slots);
  Pace pace;
  for (const MovedBlock* block : blocks_.All()) {
    for (size_t page = 0; page < block->pages(); ++page) {
      TakeWhere(lost, block->FrameAt(page), moved_groups_, [block, page](MemberIndex slot) {
        const size_t holder = block->FindHolder(slot);
        return holder != block->holders() && block->IsHere(holder, page);
      });
      if (pace.IsDue(8)) co_await Rest();
    }
  }
  std::vector<RecordedPage> in_records;
  co_await FindRecorded(records_, frames, pages_, in_records);
  WindowBitmap recorded(pages_);
  for (const RecordedPage& found : in_records) {
    const PackedWindow& record = *records_.Find(found.page.Window(pages_));
    record.CopyRecorded(recorded);
    TakeWhere(lost, found.frame, moved_groups_, [&](MemberIndex slot) {
      return HoldsFrame(record, recorded, found.page.InWindow(pages_), found.frame, slot);
    });
    if (pace.IsDue(64)) co_await Rest();
  }
  co_await SortUniqueInSteps(moved_groups_);
}

Steps MovedJudge::SeparateBreaksFromMoves() {
  Pace pace;
  for (const MovedNotes::BreakOrMove& each : notes_.breaks_or_moves) {
    if (pace.IsDue(32)) co_await Rest();
    if (HasElsewhere(each.frame, each.slot)) continue;
    if (each.frame == kForgottenFrame || MayBeUnseen(each.slot)) {
      judgement_.AddUnattributed(each.slot, each.page);
      continue;
    }
    judgement_.AddBreak(each.slot, each.page, notes_.HoldersOf(each));
  }
}

Steps MovedJudge::UpdateGroups(std::span<const MemberIndex> departing) {
  Pace pace;
  const std::vector<MovedBlock*> blocks = blocks_.All();
  const MemberSet departed(departing);
  for (MovedBlock* block : blocks) {
    block->SortChanges();
    for (size_t holder = 0; holder < block->holders(); ++holder) {
      const MemberIndex slot = block->SlotOf(holder);
      if (departed.Has(slot)) block->Expect(holder, false);
    }
    if (pace.IsDue(1 + block->holders() + 8 * block->changes().size())) co_await Rest();
  }
  std::vector<MovedPlace> places;
  co_await MovedBlocks::FindPlaces(blocks, places);
  for (size_t begin = 0; begin < places.size();) {
    size_t end = begin;
    bool all_here = true;
    for (; end < places.size() && places[end].frame == places[begin].frame; ++end) {
      const MovedBlock& block = *blocks[places[end].block];
      all_here = all_here && block.CountHere(places[end].page) == block.CountHolders(places[end].page);
      if (pace.IsDue((all_here ? 4 : 32) * (1 + block.holders()))) co_await Rest();
    }
    if (all_here && !facts_.IsKsm(places[begin].frame)) {
      frames_.push_back(places[begin].frame);
    } else {
      UpdateGroup({places.data() + begin, end - begin}, blocks, departed);
    }
    begin = end;
  }
  for (MovedBlock* block : blocks) block->ForgetChanges();
  co_await SortUniqueInSteps(frames_);
}

void MovedJudge::UpdateGroup(std::span<const MovedPlace> places, std::span<MovedBlock* const> blocks,
                             const MemberSet& departed) {
  struct Holder {
    MovedBlock* block;
    size_t holder;
    size_t page;
  };
  FrameGroup group{places.front().frame, {}};
  std::vector<Holder> holders;  // parallel to the group's
  for (const MovedPlace& place : places) {
    MovedBlock& block = *blocks[place.block];
    for (size_t holder = 0; holder < block.holders(); ++holder) {
      if (!block.Holds(holder, place.page)) continue;
      FrameHolder described = Describe(block, holder, place.page);
      if (departed.Has(described.slot)) described.state = FrameHolder::State::kGone;
      group.holders.push_back(described);
      holders.push_back({&block, holder, place.page});
    }
  }
  const GroupOutcome outcome = FindOutcome(group, facts_);
  AddVerdicts(group, outcome);
  if (outcome.alone != nullptr && outcome.alone_without_copy) {
    left_alone_.push_back({outcome.alone->frame, outcome.alone->page, outcome.alone->slot, true, outcome.alone_cause});
  }
  for (const Holder& each : holders) each.block->Leave(each.holder, each.page);
  std::vector<bool> has_left(holders.size(), true);
  const auto keep = [&](const FrameHolder* kept, bool here) {
    const auto number = static_cast<size_t>(kept - group.holders.data());
    const Holder& each = holders[number];
    each.block->Take(each.holder, each.page, here);
    each.block->SetFrame(each.page, outcome.frame);
    has_left[number] = false;
  };
  if (outcome.stay.size() + outcome.away.size() >= 2) {
    for (const FrameHolder* holder : outcome.stay) keep(holder, true);
    for (const FrameHolder* holder : outcome.away) keep(holder, false);
    frames_.push_back(outcome.frame);
  }
  // The window left this page to the group. A new page in its place may be shared as well.
  for (size_t i = 0; i < holders.size(); ++i) {
    const FrameHolder& holder = group.holders[i];
    if (!has_left[i] || &holder == outcome.alone || holder.frame == Pfn::None()) continue;
    if (facts_.MapCount(holder.frame).value_or(1) > 1)
      left_alone_.push_back({holder.frame, holder.page, holder.slot, false, UnshareCause::kUnknown});
  }
}

void MovedJudge::AddVerdicts(const FrameGroup& group, const GroupOutcome& outcome) {
  const auto known =
      static_cast<uint64_t>(std::count_if(group.holders.begin(), group.holders.end(), [](const FrameHolder& holder) {
        return holder.state == FrameHolder::State::kSame;
      }));
  const bool is_elsewhere = facts_.MapCount(group.frame).value_or(known) > known;
  std::vector<PageBreak> breaks;
  for (const FrameHolder* holder : outcome.broke) {
    if (is_elsewhere && MayBeUnseen(holder->slot)) {
      judgement_.AddUnattributed(holder->slot, holder->page);
    } else {
      breaks.push_back({holder->slot, holder->page});
    }
  }
  std::vector<MemberIndex> holders;
  for (const FrameHolder& holder : group.holders) holders.push_back(holder.slot);
  judgement_.AddBreaks(breaks, holders);
  for (const FrameHolder* holder : outcome.broke_unknown) judgement_.AddBreakOfUnknownSide(holder->slot, holder->page);
  for (const auto& [holder, cause] : outcome.unshared) judgement_.AddUnshared(holder->slot, holder->page, cause);
}

FrameHolder MovedJudge::Describe(const MovedBlock& block, size_t holder, size_t page) const {
  using State = FrameHolder::State;
  const Pfn recorded = block.FrameAt(page);
  FrameHolder described{.slot = block.SlotOf(holder), .state = State::kDropped, .page = block.first() + page};
  const MovedBlock::Change* change = block.FindChange(holder, page);
  if (block.IsHere(holder, page)) {
    described.frame = recorded;
  } else if (change != nullptr) {
    described.frame = AnonFrame(change->entry, zero_frame_);
  }
  if (described.frame != Pfn::None() && !facts_.IsKsm(described.frame)) {
    described.state = described.frame == recorded ? State::kSame : State::kChanged;
    described.large = described.state == State::kChanged && facts_.IsOfLargeFolio(described.frame).value_or(false);
    // It moved on and has another page in this place.
    if (described.state == State::kChanged && HasElsewhere(recorded, described.slot)) described.state = State::kDropped;
  } else if (!block.IsHere(holder, page) && (change == nullptr || change->entry.IsAway())) {
    described.state = State::kAway;
  }
  return described;
}

}  // namespace cow::memory
