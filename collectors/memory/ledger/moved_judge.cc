// Judges recorded moved pages that changed, and pages that a member broke or moved (end_of_pass.h).
#include <algorithm>
#include <cstddef>
#include <utility>

#include "collectors/memory/ledger/end_of_pass.h"
#include "collectors/memory/ledger/frame_group.h"
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

// Not in the unnamed namespace: GCC rejects a coroutine that holds an object of such a class in a unity build.
class MovedJudge {
 public:
  MovedJudge(const EndOfPass& end, MovedOutcome& outcome) : end_(end), outcome_(outcome) {}

  Steps FindMovedGroups() {
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
    for (const MovedBlock* block : end_.blocks.All()) {
      for (size_t page = 0; page < block->pages(); ++page) {
        TakeWhere(lost, block->FrameAt(page), moved_groups_, [block, page](MemberIndex slot) {
          const size_t holder = block->FindHolder(slot);
          return holder != block->holders() && block->IsHere(holder, page);
        });
        if (pace.IsDue(8)) co_await Rest();
      }
    }
    std::vector<RecordedPage> in_records;
    co_await FindRecorded(end_.records, frames, end_.pages_per_window, in_records);
    WindowBitmap recorded(end_.pages_per_window);
    for (const RecordedPage& found : in_records) {
      const PackedWindow& record = *end_.records.Find(found.page.Window(end_.pages_per_window));
      record.CopyRecorded(recorded);
      TakeWhere(lost, found.frame, moved_groups_, [&](MemberIndex slot) {
        return HoldsFrame(record, recorded, found.page.InWindow(end_.pages_per_window), found.frame, slot);
      });
      if (pace.IsDue(64)) co_await Rest();
    }
    co_await SortUniqueInSteps(moved_groups_);
  }

  Steps SeparateBreaksFromMoves() {
    Pace pace;
    for (const MovedNotes::BreakOrMove& each : end_.notes.breaks_or_moves) {
      if (pace.IsDue(32)) co_await Rest();
      if (HasElsewhere(each.frame, each.slot)) continue;
      if (each.frame == kForgottenFrame || MayBeUnseen(each.slot)) {
        end_.judgement.AddUnattributed(each.slot, each.page);
        continue;
      }
      end_.judgement.AddBreak(each.slot, each.page, end_.notes.HoldersOf(each));
    }
  }

  // Judges the recorded moved pages.
  Steps UpdateGroups() {
    Pace pace;
    const std::vector<MovedBlock*> blocks = end_.blocks.All();
    const MemberSet departed(end_.departing);
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
      if (all_here && !end_.facts.IsKsm(places[begin].frame)) {
        outcome_.frames.push_back(places[begin].frame);
      } else {
        UpdateGroup({places.data() + begin, end - begin}, blocks, departed);
      }
      begin = end;
    }
    for (MovedBlock* block : blocks) block->ForgetChanges();
    co_await SortUniqueInSteps(outcome_.frames);
  }

 private:
  using FrameOfSlot = std::pair<Pfn, MemberIndex>;

  // True if the slot lost a frame that a record without frames may still have for it.
  bool MayBeUnseen(MemberIndex slot) const { return unseen_.Has(slot); }

  // True if the slot moved the page: it has an unmatched page of this frame, or a group holds the frame for it at
  // another address.
  bool HasElsewhere(Pfn frame, MemberIndex slot) const {
    return end_.notes.HasUnmatched(frame, slot) ||
           std::binary_search(moved_groups_.begin(), moved_groups_.end(), std::pair(frame, slot));
  }

  // Finds frames that a slot lost at one address and may hold in a group at another, sorted.
  Steps FindLostFrames(std::vector<FrameOfSlot>& lost) {
    Pace pace;
    for (const MovedNotes::BreakOrMove& each : end_.notes.breaks_or_moves) {
      if (each.frame != kForgottenFrame && !end_.notes.HasUnmatched(each.frame, each.slot))
        lost.emplace_back(each.frame, each.slot);
      if (pace.IsDue(8)) co_await Rest();
    }
    for (const MovedBlock* block : end_.blocks.All()) {
      for (const MovedBlock::Change& change : block->changes()) {
        const MemberIndex slot = block->SlotOf(change.holder);
        if (!end_.notes.remapped.Has(slot)) continue;
        if (AnonFrame(change.entry, end_.zero_frame) != Pfn::None())
          lost.emplace_back(block->FrameAt(change.page), slot);
      }
      if (pace.IsDue(1 + block->changes().size())) co_await Rest();
    }
    co_await SortUniqueInSteps(lost);
  }

  Steps FindUnseen(std::span<const MemberIndex> slots) {
    Pace pace;
    unseen_.Clear();
    for (const auto& [window, record] : end_.records.all()) {
      if (record.has_frames()) continue;
      for (const MemberIndex slot : slots) {
        if (!unseen_.Has(slot) && record.Concerns(slot)) unseen_.Add(slot);
      }
      if (pace.IsDue(slots.size() * 8)) co_await Rest();
    }
  }

  void UpdateGroup(std::span<const MovedPlace> places, std::span<MovedBlock* const> blocks, const MemberSet& departed) {
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
    const GroupOutcome outcome = FindOutcome(group, end_.facts);
    AddVerdicts(group, outcome);
    if (outcome.alone != nullptr && outcome.alone_without_copy) {
      outcome_.left_alone.push_back(
          {outcome.alone->frame, outcome.alone->page, outcome.alone->slot, true, outcome.alone_cause});
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
      outcome_.frames.push_back(outcome.frame);
    }
    // The window left this page to the group. A new page in its place may be shared as well.
    for (size_t i = 0; i < holders.size(); ++i) {
      const FrameHolder& holder = group.holders[i];
      if (!has_left[i] || &holder == outcome.alone || holder.frame == Pfn::None()) continue;
      if (end_.facts.MapCount(holder.frame).value_or(1) > 1)
        outcome_.left_alone.push_back({holder.frame, holder.page, holder.slot, false, UnshareCause::kUnknown});
    }
  }

  void AddVerdicts(const FrameGroup& group, const GroupOutcome& outcome) {
    const auto known =
        static_cast<uint64_t>(std::count_if(group.holders.begin(), group.holders.end(), [](const FrameHolder& holder) {
          return holder.state == FrameHolder::State::kSame;
        }));
    const bool is_elsewhere = end_.facts.MapCount(group.frame).value_or(known) > known;
    std::vector<PageBreak> breaks;
    for (const FrameHolder* holder : outcome.broke) {
      if (is_elsewhere && MayBeUnseen(holder->slot)) {
        end_.judgement.AddUnattributed(holder->slot, holder->page);
      } else {
        breaks.push_back({holder->slot, holder->page});
      }
    }
    std::vector<MemberIndex> holders;
    for (const FrameHolder& holder : group.holders) holders.push_back(holder.slot);
    end_.judgement.AddBreaks(breaks, holders);
    for (const FrameHolder* holder : outcome.broke_unknown)
      end_.judgement.AddBreakOfUnknownSide(holder->slot, holder->page);
    for (const auto& [holder, cause] : outcome.unshared) end_.judgement.AddUnshared(holder->slot, holder->page, cause);
  }

  FrameHolder Describe(const MovedBlock& block, size_t holder, size_t page) const {
    using State = FrameHolder::State;
    const Pfn recorded = block.FrameAt(page);
    FrameHolder described{.slot = block.SlotOf(holder), .state = State::kDropped, .page = block.first() + page};
    const MovedBlock::Change* change = block.FindChange(holder, page);
    if (block.IsHere(holder, page)) {
      described.frame = recorded;
    } else if (change != nullptr) {
      described.frame = AnonFrame(change->entry, end_.zero_frame);
    }
    if (described.frame != Pfn::None() && !end_.facts.IsKsm(described.frame)) {
      described.state = described.frame == recorded ? State::kSame : State::kChanged;
      described.large =
          described.state == State::kChanged && end_.facts.IsOfLargeFolio(described.frame).value_or(false);
      // It moved on and has another page in this place.
      if (described.state == State::kChanged && HasElsewhere(recorded, described.slot))
        described.state = State::kDropped;
    } else if (!block.IsHere(holder, page) && (change == nullptr || change->entry.IsAway())) {
      described.state = State::kAway;
    }
    return described;
  }

  const EndOfPass& end_;
  MovedOutcome& outcome_;
  // Frames that a slot lost at one address and holds in a group at another, sorted.
  std::vector<FrameOfSlot> moved_groups_;
  MemberSet unseen_;  // see MayBeUnseen
};

Steps JudgeMoved(const EndOfPass& end, MovedOutcome& outcome) {
  MovedJudge judge(end, outcome);
  co_await judge.FindMovedGroups();
  co_await judge.SeparateBreaksFromMoves();
  co_await judge.UpdateGroups();
}

}  // namespace cow::memory
