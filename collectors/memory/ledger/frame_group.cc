#include "collectors/memory/ledger/frame_group.h"

#include <algorithm>
#include <iterator>
#include <optional>

#include "collectors/memory/ledger/window_record.h"

namespace cow::memory {
namespace {

using Holders = GroupOutcome::Holders;

void Append(Holders& holders, const Holders& more) { holders.insert(holders.end(), more.begin(), more.end()); }

// A frame that at least two holders have now. If there are several, the one with the first holder.
Pfn CommonFrame(const Holders& holders) {
  std::vector<std::pair<Pfn, size_t>> frames;
  frames.reserve(holders.size());
  for (size_t i = 0; i < holders.size(); ++i) frames.emplace_back(holders[i]->frame, i);
  std::sort(frames.begin(), frames.end());
  size_t first = holders.size();
  for (size_t i = 0; i + 1 < frames.size(); ++i) {
    const bool begins = i == 0 || frames[i - 1].first != frames[i].first;
    if (begins && frames[i + 1].first == frames[i].first) first = std::min(first, frames[i].second);
  }
  return first == holders.size() ? Pfn::None() : holders[first]->frame;
}

class OutcomeFinder {
 public:
  OutcomeFinder(const FrameGroup& group, const FrameFacts& facts) : group_(group), facts_(facts) {}

  GroupOutcome Find() {
    outcome_.frame = group_.frame;
    SortHolders();
    if (!outcome_.away.empty()) {
      CompareBesideAway();
    } else if (!returned_.empty()) {
      CompareReturned();
    } else if (group_.swapped_in && same_.size() == 1 && !changed_.empty()) {
      FindOriginalAfterSwap();
    } else if (!same_.empty()) {
      outcome_.stay = same_;
      TakeCollapsed(Pfn::None());
      outcome_.broke = changed_;
    } else if (!changed_.empty()) {
      FindSuccessor();
    }
    EndGroupOfOne();
    return std::move(outcome_);
  }

 private:
  using State = FrameHolder::State;

  void SortHolders() {
    same_.reserve(group_.holders.size());
    for (const FrameHolder& holder : group_.holders) {
      switch (holder.state) {
        case State::kSame:
          same_.push_back(&holder);
          break;
        case State::kChanged:
          changed_.push_back(&holder);
          break;
        case State::kReturned:
          (holder.frame == group_.frame ? same_ : returned_).push_back(&holder);
          break;
        case State::kAway:
          outcome_.away.push_back(&holder);
          break;
        case State::kDropped:
          dropped_ = true;
          break;
        case State::kGone:
          exited_ = true;
          break;
      }
    }
  }

  void CompareBesideAway() {
    Holders back = returned_;
    Append(back, changed_);
    const Pfn common = same_.empty() ? CommonFrame(back) : group_.frame;
    outcome_.stay = same_;
    for (const FrameHolder* holder : back) {
      if (common == Pfn::None()) {
        outcome_.away.push_back(holder);  // nothing to compare it with yet
      } else {
        CompareWithCommonFrame(holder, common);
      }
    }
    if (common != Pfn::None()) outcome_.frame = common;
  }

  void CompareReturned() {
    Holders present = same_;
    Append(present, returned_);
    Append(present, changed_);
    const Pfn common = same_.empty() ? CommonFrame(present) : group_.frame;
    // If all differ, one of them has the page itself; which one is unknown.
    const FrameHolder* original = common == Pfn::None() && !exited_ && !dropped_ ? present.front() : nullptr;
    for (const FrameHolder* holder : present) {
      if (holder != original) CompareWithCommonFrame(holder, common);
    }
    if (common != Pfn::None()) outcome_.frame = common;
  }

  void CompareWithCommonFrame(const FrameHolder* holder, Pfn common) {
    if (holder->frame == common) {
      outcome_.stay.push_back(holder);
    } else if (holder->state == State::kChanged && common == group_.frame) {
      outcome_.broke.push_back(holder);
    } else {
      outcome_.unshared.emplace_back(holder, UnshareCause::kUnknown);
    }
  }

  // The frame may have been freed and reused for a copy: only the marks show which holder has the page itself.
  void FindOriginalAfterSwap() {
    TakeCollapsed(Pfn::None());
    changed_.push_back(same_.front());
    if (FindOriginalByMarks()) return;
    if (changed_.size() == 1) {
      outcome_.stay = changed_;
    } else {
      outcome_.broke_unknown = AllButOne(changed_);
    }
  }

  void FindSuccessor() {
    const Pfn moved_to = CommonFrame(changed_);
    if (moved_to != Pfn::None()) {
      TakeCollapsed(moved_to);
      outcome_.frame = moved_to;
      for (const FrameHolder* holder : changed_) {
        (holder->frame == moved_to ? outcome_.stay : outcome_.broke).push_back(holder);
      }
    } else if (!FindOriginalByMarks()) {
      CountBreaksAndCollapses();
    }
  }

  // All holders have different frames, and no mark shows which one has the page itself or its successor.
  void CountBreaksAndCollapses() {
    const bool all_here = !exited_ && !dropped_;
    const bool forgotten = group_.frame == kForgottenFrame;
    if (forgotten && !all_here && changed_.size() == 1) {
      // The holder may still have the page itself: only the partner's departure is certain.
      outcome_.unshared.emplace_back(changed_.front(), CauseOfLeaving());
      return;
    }
    Holders collapsed;
    Holders others;
    for (const FrameHolder* holder : changed_) (holder->large ? collapsed : others).push_back(holder);
    if (collapsed.empty()) {
      // If a holder left, it had the page last. If all are here, the last one reused its page, so one holder made no
      // copy.
      if (all_here || forgotten) {
        outcome_.broke_unknown = AllButOne(others);
      } else {
        outcome_.broke = others;
      }
    } else if (!forgotten) {
      // The last of several collapsing holders was alone by then, unless a holder left after it.
      AddUnshared(all_here ? AllButOne(collapsed) : collapsed, UnshareCause::kCollapse);
      outcome_.broke = others;
    } else if (others.empty()) {
      AddUnshared(AllButOne(collapsed), UnshareCause::kCollapse);
    } else {
      // Any holder may have the page itself: then its large folio is not a collapse, or its single page is not a copy.
      outcome_.broke_unknown = AllButOne(others);
      AddUnshared(collapsed, UnshareCause::kUnknown);
    }
  }

  // Uses the kernel's AnonExclusive mark. A copy has it; a page that fork shared and that only moved has not. Fork also
  // clears a copy's mark, so an unmarked page is the original only if its holder has forked no child since. Returns
  // false if the marks do not single out one holder.
  bool FindOriginalByMarks() {
    const FrameHolder* original = nullptr;
    for (const FrameHolder* holder : changed_) {
      const std::optional<bool> exclusive = facts_.IsExclusive(holder->frame);
      if (!exclusive || (!*exclusive && (original != nullptr || !holder->idle))) return false;
      if (!*exclusive) original = holder;
    }
    if (original == nullptr) return false;
    TakeCollapsed(original->frame);
    outcome_.frame = original->frame;
    outcome_.stay = {original};
    std::copy_if(changed_.begin(), changed_.end(), std::back_inserter(outcome_.broke),
                 [original](const FrameHolder* holder) { return holder != original; });
    return true;
  }

  static Holders AllButOne(Holders holders) {
    if (!holders.empty()) holders.pop_back();
    return holders;
  }

  void AddUnshared(const Holders& holders, UnshareCause cause) {
    for (const FrameHolder* holder : holders) outcome_.unshared.emplace_back(holder, cause);
  }

  // khugepaged copies pages into a large folio without a fault: not copy-on-write.
  void TakeCollapsed(Pfn kept) {
    std::erase_if(changed_, [&](const FrameHolder* holder) {
      if (!holder->large || holder->frame == kept) return false;
      outcome_.unshared.emplace_back(holder, UnshareCause::kCollapse);
      return true;
    });
  }

  void EndGroupOfOne() {
    if (outcome_.stay.size() == 1 && outcome_.away.empty()) {
      outcome_.alone = outcome_.stay.front();
      outcome_.stay.clear();
      outcome_.alone_without_copy = exited_ || dropped_;
      outcome_.alone_cause = CauseOfLeaving();
    } else if (outcome_.stay.empty() && outcome_.away.size() == 1) {
      outcome_.away.clear();
    }
  }

  UnshareCause CauseOfLeaving() const { return exited_ ? UnshareCause::kExit : UnshareCause::kUnmap; }

  const FrameGroup& group_;
  const FrameFacts& facts_;
  GroupOutcome outcome_;
  Holders same_;
  Holders changed_;
  Holders returned_;
  bool exited_ = false;
  bool dropped_ = false;
};

}  // namespace

GroupOutcome FindOutcome(const FrameGroup& group, const FrameFacts& facts) {
  return OutcomeFinder(group, facts).Find();
}

}  // namespace cow::memory
