#include "collectors/memory/ledger/page_judge.h"

#include <algorithm>
#include <bit>
#include <iterator>
#include <map>
#include <unordered_map>
#include <utility>
#include <vector>

#include "collectors/base/sort_unique.h"
#include "collectors/memory/ledger/frame_group.h"

namespace cow::memory {
namespace {

using State = FrameHolder::State;

// Moves the items of these pages into `taken`, sorted by page.
template <class Item>
void TakeOfPages(std::vector<Item>& items, BitmapView pages, std::vector<Item>& taken) {
  const auto stays = [pages](const Item& item) { return !pages.Test(item.page); };
  const auto first = std::stable_partition(items.begin(), items.end(), stays);
  taken.assign(std::make_move_iterator(first), std::make_move_iterator(items.end()));
  items.erase(first, items.end());
  std::stable_sort(taken.begin(), taken.end(), [](const Item& a, const Item& b) { return a.page < b.page; });
}

class PageJudge {
 public:
  PageJudge(const ComparedWindow& window, WindowRecord& record, MovedPages& moved, Judgement& judgement)
      : window_(window),
        record_(record),
        moved_(moved),
        judgement_(judgement),
        index_(window.readings),
        departing_(window.departing) {
    huge_.reserve(window.readings.size());
    for (const Reading& reading : window.readings) {
      huge_.push_back(!reading.hugetlb && IsHugeRun(std::span(reading.entries, record.frames.size())));
    }
  }

  void JudgePages(BitmapView pages) {
    TakeOfPages(record_.extras, pages, extras_);
    TakeOfPages(record_.away, pages, away_);
    FindCollapsed(pages);
    pages.ForEach([this](size_t page) { JudgePage(page); });
  }

 private:
  // The members that share a page with a member at its first look.
  struct Relations {
    std::vector<uint32_t> readings;    // of the holders that were read, itself included
    std::vector<MemberIndex> holders;  // itself included
    bool was_seen = false;             // a holder was seen at an earlier look
  };

  PageNumber ThisPage() const { return window_.first_page + page_; }
  Pfn FrameNow(uint32_t reading) const { return frames_now_[reading]; }
  bool IsChildOf(uint32_t reading, MemberIndex parent) const { return window_.readings[reading].parent == parent; }

  // Finds the members whose window was collapsed into a huge page since the last look, even if it was split again
  // since. A collapse replaces all pages of the window. If one of them is in a new huge page, every other frame is
  // younger than the collapse and not a copy of the frame before it.
  void FindCollapsed(BitmapView pages) {
    for (uint32_t r = 0; r < huge_.size(); ++r) huge_[r] = huge_[r] || BecameHuge(r, pages);
    for (const WindowRecord::Extra& extra : extras_) {
      for (const MemberIndex slot : extra.holders) {
        const uint32_t reading = index_.Find(slot);
        if (reading == kNoReading || huge_[reading]) continue;
        const bool changed = window_.comparison.members[reading].frames[extra.page] != extra.frame;
        huge_[reading] = changed && IsInNewHugePage(reading, extra.page);
      }
    }
  }

  bool BecameHuge(uint32_t reading, BitmapView pages) const {
    const MemberIndex slot = window_.readings[reading].slot;
    if (slot >= record_.SlotsEnd()) return false;
    const BitmapView held = std::as_const(record_).Held(slot);
    for (size_t w = 0; w < pages.words().size(); ++w) {
      uint64_t changed = held.Word(w) & pages.Word(w) & ~window_.comparison.members[reading].current.Word(w);
      for (; changed != 0; changed &= changed - 1) {
        const size_t page = w * 64 + static_cast<size_t>(std::countr_zero(changed));
        if (record_.frames[page] != kForgottenFrame && IsInNewHugePage(reading, page)) return true;
      }
    }
    return false;
  }

  // For a page whose frame changed.
  bool IsInNewHugePage(uint32_t reading, size_t page) const {
    const Pfn frame = window_.comparison.members[reading].frames[page];
    const size_t window = record_.frames.size();
    return frame != Pfn::None() && frame.InRun(window) == page &&
           window_.facts.IsOfHugePage(MiddleFrame(frame, window));
  }

  void JudgePage(size_t page) {
    page_ = page;
    ReadFrames();
    groups_.clear();
    place_of_.clear();
    counted_.clear();
    left_alone_.clear();
    TakeGroups();
    AddNewHolders();
    std::vector<FrameGroup> kept;
    for (const FrameGroup& group : groups_) CommitGroup(group, kept);
    group_of_.clear();
    NoteGroups(kept, 0);
    const std::vector<uint32_t> single = FormGroups(kept);
    for (uint32_t r = 0; r < window_.readings.size(); ++r) {
      if (window_.readings[r].IsNewChild() && FrameNow(r) != Pfn::None()) JudgeFirstLook(r, kept);
    }
    AddUnmatchedPages(single);
    PutGroups(kept);
  }

  void ReadFrames() {
    frames_now_.resize(window_.readings.size());
    for (size_t r = 0; r < frames_now_.size(); ++r) {
      const Pfn frame = window_.comparison.members[r].frames[page_];
      // Most members have the same frame.
      if (r != 0 && frame == window_.comparison.members[r - 1].frames[page_]) {
        frames_now_[r] = frames_now_[r - 1];
      } else {
        frames_now_[r] = frame != Pfn::None() && window_.facts.IsKsm(frame) ? Pfn::None() : frame;
      }
    }
  }

  FrameHolder Describe(MemberIndex slot, Pfn recorded, bool was_away) const {
    FrameHolder holder{.slot = slot, .page = ThisPage()};
    const uint32_t reading = index_.Find(slot);
    if (departing_.Has(slot)) {
      holder.state = State::kGone;
    } else if (reading == kNoReading) {
      holder.state = State::kAway;
      holder.missed = !was_away;
    } else {
      holder.frame = FrameNow(reading);
      // Facts about an unchanged frame exist only if swap may have reused it for another page.
      const bool may_be_new = holder.frame != recorded || window_.comparison.swapped_in;
      holder.large = huge_[reading] || (may_be_new && window_.facts.IsOfLargeFolio(holder.frame).value_or(false));
      holder.idle = window_.readings[reading].idle;
      if (holder.frame != Pfn::None()) {
        const State elsewhere = was_away ? State::kReturned : State::kChanged;
        holder.state = holder.frame == recorded ? State::kSame : elsewhere;
      } else {
        holder.state = window_.readings[reading].entries[page_].IsAway() ? State::kAway : State::kDropped;
      }
    }
    return holder;
  }

  FrameGroup& GroupAt(Pfn frame) {
    const auto [place, is_new] = place_of_.try_emplace(frame, groups_.size());
    if (is_new) groups_.push_back(FrameGroup{frame, {}, window_.comparison.swapped_in});
    return groups_[place->second];
  }

  void TakeGroups() {
    const auto add = [this](FrameGroup& group, std::span<const MemberIndex> slots) {
      group.holders.reserve(group.holders.size() + slots.size());
      for (const MemberIndex slot : slots) group.holders.push_back(Describe(slot, group.frame, false));
    };
    const Pfn frame = record_.frames[page_];
    if (frame != Pfn::None()) add(GroupAt(frame), record_.TakePage(page_));
    for (; next_extra_ < extras_.size() && extras_[next_extra_].page == page_; ++next_extra_) {
      const WindowRecord::Extra& extra = extras_[next_extra_];
      add(GroupAt(extra.frame), extra.holders);
    }
    for (; next_away_ < away_.size() && away_[next_away_].page == page_; ++next_away_) {
      const WindowRecord::Away& away = away_[next_away_];
      GroupAt(away.frame).holders.push_back(Describe(away.slot, away.frame, !away.missed));
    }
  }

  // A child that has a recorded frame got it by fork. So the frame did not move, even if all recorded holders left it.
  void AddNewHolders() {
    for (uint32_t r = 0; r < window_.readings.size(); ++r) {
      if (!window_.readings[r].IsNewChild()) continue;
      const auto place = place_of_.find(FrameNow(r));
      if (place == place_of_.end() || window_.facts.IsExclusive(FrameNow(r)).value_or(false)) continue;
      std::vector<FrameHolder>& holders = groups_[place->second].holders;
      const MemberIndex slot = window_.readings[r].slot;
      const bool is_recorded = std::any_of(holders.begin(), holders.end(),
                                           [slot](const FrameHolder& holder) { return holder.slot == slot; });
      if (!is_recorded) holders.push_back(Describe(slot, FrameNow(r), false));
    }
  }

  void CommitGroup(const FrameGroup& group, std::vector<FrameGroup>& kept) {
    const GroupOutcome outcome = FindOutcome(group, window_.facts);
    if (!outcome.broke.empty()) AddBreaks(group, outcome);
    const bool any_moved = MayHaveMovedUnseen(group);
    for (const FrameHolder* holder : outcome.broke_unknown) {
      if (any_moved) {
        judgement_.AddUnattributed(holder->slot, ThisPage());
      } else {
        judgement_.AddBreakOfUnknownSide(holder->slot, ThisPage());
      }
    }
    for (const auto& [holder, cause] : outcome.unshared) judgement_.AddUnshared(holder->slot, ThisPage(), cause);
    if (outcome.alone != nullptr && outcome.alone_without_copy) {
      const MemberIndex slot = outcome.alone->slot;
      if (window_.comparison.members[index_.Find(slot)].maybe_shared.Test(page_)) {
        left_alone_.insert_or_assign(slot, outcome.alone_cause);  // the partner may be at another address
      } else {
        judgement_.AddUnshared(slot, ThisPage(), outcome.alone_cause);
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

  void AddBreaks(const FrameGroup& group, const GroupOutcome& outcome) {
    std::vector<PageBreak> breaks;
    std::vector<MemberIndex> holders;
    for (const FrameHolder& holder : group.holders) {
      if (holder.state != State::kDropped) holders.push_back(holder.slot);
    }
    const Pfn broken = group.frame == kForgottenFrame ? outcome.frame : group.frame;
    for (const FrameHolder* breaker : outcome.broke) {
      counted_.emplace_back(breaker->slot, broken);
      if (MayHaveMoved(*breaker, broken)) {
        moved_.AddBreakOrMove(broken, ThisPage(), breaker->slot, holders);
      } else {
        breaks.push_back({breaker->slot, ThisPage()});
      }
    }
    judgement_.AddBreaks(breaks, holders);
  }

  bool IsRemapped(const FrameHolder& holder) const {
    const uint32_t reading = index_.Find(holder.slot);
    return reading != kNoReading && window_.readings[reading].remapped;
  }

  // The shared frame is unknown, and a holder may have moved the page and mapped another one in its place.
  bool MayHaveMovedUnseen(const FrameGroup& group) const {
    return group.frame == kForgottenFrame && std::any_of(group.holders.begin(), group.holders.end(),
                                                         [this](const FrameHolder& each) { return IsRemapped(each); });
  }

  // True if the holder's mappings changed and the frame has more mappings than the members have here.
  bool MayHaveMoved(const FrameHolder& holder, Pfn frame) const {
    if (!IsRemapped(holder)) return false;
    if (frame == kForgottenFrame) return true;
    const auto here = static_cast<uint64_t>(std::count(frames_now_.begin(), frames_now_.end(), frame));
    return window_.facts.MapCount(frame).value_or(here) > here;
  }

  // Fills group_of_ from the groups from `first` on.
  void NoteGroups(const std::vector<FrameGroup>& kept, size_t first) {
    for (size_t i = first; i < kept.size(); ++i) {
      for (const FrameHolder& holder : kept[i].holders) {
        if (holder.slot.number() >= group_of_.size()) group_of_.resize(holder.slot.number() + 1, kNoReading);
        if (group_of_[holder.slot.number()] == kNoReading) group_of_[holder.slot.number()] = static_cast<uint32_t>(i);
      }
    }
  }

  // The group that contains the slot; null if there is none.
  const FrameGroup* GroupOf(MemberIndex slot, const std::vector<FrameGroup>& kept) const {
    return slot.number() < group_of_.size() && group_of_[slot.number()] != kNoReading ? &kept[group_of_[slot.number()]]
                                                                                      : nullptr;
  }

  // Adds members to the groups of their frames. Returns the readings without a group.
  std::vector<uint32_t> JoinGroups(std::vector<FrameGroup>& kept) {
    place_of_.clear();
    for (size_t i = 0; i < kept.size(); ++i) place_of_.try_emplace(kept[i].frame, i);
    std::vector<uint32_t> single;
    for (uint32_t r = 0; r < window_.readings.size(); ++r) {
      const Pfn frame = FrameNow(r);
      const MemberIndex slot = window_.readings[r].slot;
      if (frame == Pfn::None() || GroupOf(slot, kept) != nullptr) continue;
      if (const auto group = place_of_.find(frame); group != place_of_.end()) {
        kept[group->second].holders.push_back(Describe(slot, frame, false));
        if (slot.number() >= group_of_.size()) group_of_.resize(slot.number() + 1, kNoReading);
        group_of_[slot.number()] = static_cast<uint32_t>(group->second);
      } else {
        single.push_back(r);
      }
    }
    return single;
  }

  // Forms new groups of members that share an unrecorded frame. Returns the readings without a partner.
  std::vector<uint32_t> FormGroups(std::vector<FrameGroup>& kept) {
    std::vector<uint32_t> single = JoinGroups(kept);
    std::vector<std::pair<Pfn, uint32_t>> by_frame;
    by_frame.reserve(single.size());
    for (const uint32_t r : single) by_frame.emplace_back(FrameNow(r), r);
    std::sort(by_frame.begin(), by_frame.end());
    single.clear();
    std::vector<std::span<const std::pair<Pfn, uint32_t>>> alike;
    for (std::span<const std::pair<Pfn, uint32_t>> rest = by_frame; !rest.empty();) {
      const auto run = TakeRun(rest, [](const auto& item) { return item.first; });
      if (run.size() > 1) {
        alike.push_back(run);
      } else {
        single.push_back(run.front().second);
      }
    }
    std::sort(single.begin(), single.end());
    std::sort(alike.begin(), alike.end(),
              [](const auto& a, const auto& b) { return a.front().second < b.front().second; });
    const size_t first = kept.size();
    for (const auto& readings : alike) {
      FrameGroup group{readings.front().first, {}};
      group.holders.reserve(readings.size());
      for (const auto& [frame, r] : readings) {
        group.holders.push_back(Describe(window_.readings[r].slot, frame, false));
      }
      kept.push_back(std::move(group));
    }
    NoteGroups(kept, first);
    return single;
  }

  Relations RelationsOf(uint32_t reading, const std::vector<FrameGroup>& kept) const {
    const MemberIndex slot = window_.readings[reading].slot;
    Relations relations{{reading}, {slot}};
    const FrameGroup* group = GroupOf(slot, kept);
    if (group == nullptr) return relations;
    for (const FrameHolder& holder : group->holders) {
      if (holder.slot == slot) continue;
      relations.holders.push_back(holder.slot);
      const uint32_t other = index_.Find(holder.slot);
      if (other != kNoReading) relations.readings.push_back(other);
      if (other == kNoReading || !window_.readings[other].first_look) relations.was_seen = true;
    }
    return relations;
  }

  // Compares the page with the parent's. If the parent has none, relatives' pages show whether anything was copied.
  void JudgeFirstLook(uint32_t reading, const std::vector<FrameGroup>& kept) {
    const uint32_t parent = index_.Find(window_.readings[reading].parent);
    if (parent != kNoReading && FrameNow(parent) == FrameNow(reading)) return;
    const Relations relations = RelationsOf(reading, kept);
    // A holder from an earlier look is in the record if it shared the page, and is judged there.
    if (relations.was_seen) return;
    if (parent != kNoReading && FrameNow(parent) != Pfn::None()) {
      CompareWithParent(reading, parent, relations);
    } else if (HasOtherFrames(reading)) {
      AddUnattributed(reading);
    }
  }

  void CompareWithParent(uint32_t reading, uint32_t parent, const Relations& relations) {
    const MemberIndex slot = window_.readings[reading].slot;
    const MemberIndex parent_slot = window_.readings[parent].slot;
    if (IsCopy(reading) && ForksAround(reading).parent_idle && IsOriginal(parent)) {
      // Its own child with the same frame shows the same copy.
      if (!Counted(slot, FrameNow(parent))) {
        judgement_.AddBreak(slot, ThisPage(), std::span(&parent_slot, 1));
      }
    } else if (IsCopy(parent) && IsInherited(relations, parent_slot)) {
      if (!Counted(parent_slot, FrameNow(reading))) {
        judgement_.AddBreak(parent_slot, ThisPage(), relations.holders);
      }
    } else {
      AddUnattributed(reading);
    }
  }

  // Evidence about forks around a member. Swap-in changes frames and marks without a fork or a copy, so it voids the
  // evidence.
  ForkEvidence ForksAround(uint32_t reading) const {
    const Reading& member = window_.readings[reading];
    return window_.comparison.swapped_in || !member.forks.own_child ? ForkEvidence() : member.forks;
  }

  // True if the holders have the page from the parent: the page is an original, and the parent forked one of them that
  // has forked no child since, so no other fork cleared the mark.
  bool IsInherited(const Relations& relations, MemberIndex parent) const {
    return IsOriginal(relations.readings.front()) &&
           std::any_of(relations.readings.begin(), relations.readings.end(),
                       [&](uint32_t holder) { return IsChildOf(holder, parent) && ForksAround(holder).idle; });
  }

  // True if the page was not written since some fork and has no holder elsewhere, so it was not moved.
  bool IsOriginal(uint32_t reading) const {
    const Pfn frame = FrameNow(reading);
    if (window_.facts.IsExclusive(frame).value_or(true)) return false;
    const auto holders = static_cast<uint64_t>(std::count(frames_now_.begin(), frames_now_.end(), frame));
    return window_.facts.MapCount(frame) == holders;
  }

  // True if the page is exclusive and copy-on-write can have made it. Except for hugetlb, it makes single pages only.
  bool IsCopy(uint32_t reading) const {
    const Pfn frame = FrameNow(reading);
    if (!window_.facts.IsExclusive(frame).value_or(false)) return false;
    return window_.readings[reading].hugetlb || !window_.facts.IsOfLargeFolio(frame).value_or(true);
  }

  bool HasOtherFrames(uint32_t reading) const {
    for (uint32_t other = 0; other < window_.readings.size(); ++other) {
      const Pfn frame = FrameNow(other);
      if (frame != Pfn::None() && frame != FrameNow(reading) && !IsChildOf(other, window_.readings[reading].slot))
        return true;
    }
    return false;
  }

  // Adds one verdict for all members that share the frame.
  void AddUnattributed(uint32_t reading) {
    if (Counted(Verdict::kNobody, FrameNow(reading))) return;
    judgement_.AddUnattributed(window_.readings[reading].slot, ThisPage());
  }

  // True if this break is already in the judgement; else remembers it.
  bool Counted(MemberIndex slot, Pfn frame) {
    const std::pair key(slot, frame);
    if (std::find(counted_.begin(), counted_.end(), key) != counted_.end()) return true;
    counted_.push_back(key);
    return false;
  }

  void AddUnmatchedPages(const std::vector<uint32_t>& single) {
    for (const uint32_t r : single) {
      if (!window_.comparison.members[r].maybe_shared.Test(page_)) continue;
      UnmatchedPage page{FrameNow(r), ThisPage(), window_.readings[r].slot, false, UnshareCause::kUnknown};
      if (const auto left = left_alone_.find(page.slot); left != left_alone_.end()) {
        page.was_shared = true;
        page.cause = left->second;
      }
      moved_.AddUnmatched(page);
    }
  }

  void PutGroups(const std::vector<FrameGroup>& kept) {
    const auto present = [](const FrameGroup& group) {
      return std::count_if(group.holders.begin(), group.holders.end(),
                           [](const FrameHolder& holder) { return holder.state != State::kAway; });
    };
    const auto main = std::max_element(kept.begin(), kept.end(),
                                       [&present](const auto& a, const auto& b) { return present(a) < present(b); });
    for (const FrameGroup& group : kept) {
      WindowRecord::Extra extra{static_cast<uint32_t>(page_), group.frame, {}};
      for (const FrameHolder& holder : group.holders) {
        if (holder.state == State::kAway) {
          record_.away.push_back({static_cast<uint32_t>(page_), group.frame, holder.slot, holder.missed});
        } else if (&group == &*main) {
          record_.Held(holder.slot).Set(page_);
        } else {
          extra.holders.push_back(holder.slot);
        }
      }
      if (&group == &*main) {
        record_.frames[page_] = group.frame;
      } else if (!extra.holders.empty()) {
        record_.extras.push_back(std::move(extra));
      }
    }
  }

  const ComparedWindow& window_;
  WindowRecord& record_;
  MovedPages& moved_;
  Judgement& judgement_;
  ReadingIndex index_;
  std::vector<bool> huge_;  // by reading: the window is or was a huge page since the last look
  MemberSet departing_;     // members that ended
  // Taken out of the record for the pages to judge, by page, with an index of the next one.
  std::vector<WindowRecord::Extra> extras_;
  std::vector<WindowRecord::Away> away_;
  size_t next_extra_ = 0;
  size_t next_away_ = 0;
  // State of the current page.
  size_t page_ = 0;                                   // within the window
  std::vector<Pfn> frames_now_;                       // by reading; Pfn::None() also for a page merged by KSM
  std::vector<FrameGroup> groups_;                    // as recorded
  std::unordered_map<Pfn, size_t> place_of_;          // in `groups_`, later in `kept`, by frame
  std::vector<uint32_t> group_of_;                    // by slot: index of its group, or kNoReading
  std::vector<std::pair<MemberIndex, Pfn>> counted_;  // (breaker, broken frame)
  std::map<MemberIndex, UnshareCause> left_alone_;    // last holders, and how the others left
};

}  // namespace

void JudgePages(const ComparedWindow& window, BitmapView pages, WindowRecord& record, MovedPages& moved,
                Judgement& judgement) {
  PageJudge(window, record, moved, judgement).JudgePages(pages);
}

}  // namespace cow::memory
