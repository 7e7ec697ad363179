#include "collectors/memory/ledger.h"

#include <algorithm>
#include <cstring>
#include <unordered_map>
#include <utility>

namespace cow::memory {
namespace {

constexpr uint32_t kNoReading = ~uint32_t{0};
// Stands for a frame that was dropped and that nobody's page tells: no page frame has this number.
constexpr uint64_t kForgottenFrame = procfs::kPagemapFrameMask;
// No entry is like this one.
constexpr uint64_t kNotRead = ~uint64_t{0};

// Which reading belongs to a slot.
class SlotIndex {
 public:
  explicit SlotIndex(std::span<const Reading> readings) {
    for (uint32_t i = 0; i < readings.size(); ++i) {
      if (readings[i].slot >= index_.size()) index_.resize(readings[i].slot + 1, kNoReading);
      index_[readings[i].slot] = i;
    }
  }
  uint32_t Find(Slot slot) const { return slot < index_.size() ? index_[slot] : kNoReading; }

 private:
  std::vector<uint32_t> index_;
};

// Splits raw entries into frames and bitmaps.
void Decode(std::span<const uint64_t> entries, uint64_t zero_frame, Examination::Member& member) {
  member.own_frames.resize(entries.size());
  for (size_t w = 0; w * 64 < entries.size(); ++w) {
    uint64_t anon = 0;
    uint64_t maybe_shared = 0;
    uint64_t away = 0;
    const size_t end = std::min<size_t>(64, entries.size() - w * 64);
    for (size_t b = 0; b < end; ++b) {
      const uint64_t entry = entries[w * 64 + b];
      const uint64_t frame = AnonFrame(entry, zero_frame);
      const uint64_t is_anon = frame != kNoFrame ? 1 : 0;
      member.own_frames[w * 64 + b] = frame;
      anon |= is_anon << b;
      maybe_shared |= (is_anon & (IsMappedOnce(entry) ? 0U : 1U)) << b;
      away |= (IsAway(entry) ? uint64_t{1} : 0) << b;
    }
    member.anon[w] = anon;
    member.maybe_shared[w] = maybe_shared;
    member.away[w] = away;
  }
  member.frames = member.own_frames.data();
}

void MarkEqual(const uint64_t* frames, std::span<const uint64_t> candidates, std::span<uint64_t> equal) {
  for (size_t w = 0; w < equal.size(); ++w) {
    uint64_t bits = 0;
    const size_t end = std::min<size_t>(64, candidates.size() - w * 64);
    for (size_t b = 0; b < end; ++b) {
      const uint64_t frame = frames[w * 64 + b];
      bits |= static_cast<uint64_t>(frame == candidates[w * 64 + b] && frame != kNoFrame) << b;
    }
    equal[w] = bits;
  }
}

bool Contains(const std::vector<Slot>& slots, Slot slot) {
  return std::find(slots.begin(), slots.end(), slot) != slots.end();
}

void AddWitness(std::vector<uint32_t>& witnesses, uint32_t reading) {
  if (std::find(witnesses.begin(), witnesses.end(), reading) == witnesses.end()) witnesses.push_back(reading);
}

}  // namespace

// One member's part in a frame that was shared.
struct Ledger::Holder {
  enum class State {
    kSame,      // still has the frame
    kChanged,   // has another one
    kReturned,  // was away, has a frame again
    kAway,      // swapped out, migrating, or not read
    kDropped,   // has nothing there now, or no anonymous page
    kGone,      // the member ended
  };
  Slot slot = 0;
  State state = State::kSame;
  uint64_t frame = kNoFrame;  // now
  uint64_t page = 0;
  bool huge_run = false;  // its window is one huge page now
  bool missed = false;    // of kAway: because of a look that was not taken
};

struct Ledger::Group {
  uint64_t frame = kNoFrame;  // as recorded
  std::vector<Holder> holders;
  bool swapped_in = false;  // pages of the members came back from swap meanwhile
};

// What becomes of a group.
struct Ledger::Outcome {
  uint64_t frame = kNoFrame;
  std::vector<const Holder*> stay;
  std::vector<const Holder*> away;
  std::vector<const Holder*> broke;
  const Holder* broke_unknown = nullptr;  // any one of those among whom it can't be told
  uint64_t unknown_breaks = 0;
  std::vector<std::pair<const Holder*, UnshareCause>> unshared;
  const Holder* alone = nullptr;  // the last one, where the group ended
  bool alone_without_copy = false;
  UnshareCause alone_cause = UnshareCause::kUnknown;

  void Clear() { *this = Outcome(); }
};

// By the kernel's mark of an exclusive page: a copy has it, a page that was shared by fork and only moved has not.
// False if the marks don't name one holder of the page itself.
bool Ledger::JudgeByMarks(const std::vector<const Holder*>& holders, const FrameFacts& facts, Outcome& outcome) {
  std::vector<const Holder*> marked;
  std::vector<const Holder*> unmarked;
  for (const Holder* holder : holders) {
    const std::optional<bool> exclusive = facts.IsExclusive(holder->frame);
    if (!exclusive) return false;
    (*exclusive ? marked : unmarked).push_back(holder);
  }
  if (unmarked.size() != 1) return false;
  outcome.frame = unmarked.front()->frame;
  outcome.stay = std::move(unmarked);
  outcome.broke = std::move(marked);
  return true;
}

void Ledger::Evaluate(Group& group, const FrameFacts& facts, Outcome& outcome) {
  using State = Holder::State;
  outcome.Clear();
  outcome.frame = group.frame;

  std::vector<const Holder*> same;
  std::vector<const Holder*> changed;
  std::vector<const Holder*> returned;
  bool exited = false;
  bool dropped = false;
  for (const Holder& holder : group.holders) {
    switch (holder.state) {
      case State::kSame:
        same.push_back(&holder);
        break;
      case State::kChanged:
        changed.push_back(&holder);
        break;
      case State::kReturned:
        (holder.frame == group.frame ? same : returned).push_back(&holder);
        break;
      case State::kAway:
        outcome.away.push_back(&holder);
        break;
      case State::kDropped:
        dropped = true;
        break;
      case State::kGone:
        exited = true;
        break;
    }
  }
  // A frame that at least two of these have now.
  const auto common_frame = [](const std::vector<const Holder*>& holders) {
    for (size_t i = 0; i < holders.size(); ++i) {
      for (size_t j = i + 1; j < holders.size(); ++j) {
        if (holders[i]->frame == holders[j]->frame) return holders[i]->frame;
      }
    }
    return kNoFrame;
  };
  // khugepaged copies 512 pages into a huge one of its own: without a fault, not copy-on-write.
  const auto take_collapsed = [&outcome](std::vector<const Holder*>& holders, uint64_t moved_to) {
    std::erase_if(holders, [&](const Holder* holder) {
      if (!holder->huge_run || holder->frame == moved_to) return false;
      outcome.unshared.emplace_back(holder, UnshareCause::kCollapse);
      return true;
    });
  };

  if (!outcome.away.empty()) {
    std::vector<const Holder*> back = returned;
    back.insert(back.end(), changed.begin(), changed.end());
    const uint64_t common = same.empty() ? common_frame(back) : group.frame;
    outcome.stay = same;
    for (const Holder* holder : back) {
      if (common == kNoFrame) {
        outcome.away.push_back(holder);  // nothing to compare it with yet
      } else if (holder->frame == common) {
        outcome.stay.push_back(holder);
      } else if (holder->state == State::kChanged && common == group.frame) {
        outcome.broke.push_back(holder);
      } else {
        outcome.unshared.emplace_back(holder, UnshareCause::kUnknown);
      }
    }
    if (common != kNoFrame) outcome.frame = common;
  } else if (!returned.empty()) {
    std::vector<const Holder*> present = same;
    present.insert(present.end(), returned.begin(), returned.end());
    present.insert(present.end(), changed.begin(), changed.end());
    const uint64_t common = same.empty() ? common_frame(present) : group.frame;
    // All differ: one of them has the page itself, whichever that is.
    const Holder* original = common == kNoFrame && !exited && !dropped ? present.front() : nullptr;
    for (const Holder* holder : present) {
      if (holder == original) continue;
      if (holder->frame == common) {
        outcome.stay.push_back(holder);
      } else if (common == group.frame && holder->state == State::kChanged) {
        outcome.broke.push_back(holder);
      } else {
        outcome.unshared.emplace_back(holder, UnshareCause::kUnknown);
      }
    }
    if (common != kNoFrame) outcome.frame = common;
  } else if (group.swapped_in && same.size() == 1 && !changed.empty()) {
    // The frame may have been freed and taken again for a copy: only the marks tell who has the page itself.
    take_collapsed(changed, kNoFrame);
    changed.push_back(same.front());
    if (JudgeByMarks(changed, facts, outcome)) {
      // The marks told.
    } else if (changed.size() == 1) {
      outcome.stay = changed;
    } else {
      outcome.broke_unknown = changed.front();
      outcome.unknown_breaks = changed.size() - 1;
    }
  } else if (!same.empty()) {
    outcome.stay = same;
    take_collapsed(changed, kNoFrame);
    outcome.broke = changed;
  } else if (!changed.empty()) {
    const uint64_t moved_to = common_frame(changed);
    take_collapsed(changed, moved_to);
    if (moved_to != kNoFrame) {
      outcome.frame = moved_to;
      for (const Holder* holder : changed) (holder->frame == moved_to ? outcome.stay : outcome.broke).push_back(holder);
    } else {
      // Nobody kept the frame. A page that only moved still has the mark of a forked page; a copy has not.
      const bool all_here = !exited && !dropped && outcome.unshared.empty();
      if (JudgeByMarks(changed, facts, outcome)) {
        // The marks told.
      } else if (!all_here && group.frame != kForgottenFrame) {
        outcome.broke = changed;
      } else if (changed.size() == 1) {
        // Its frame was dropped and no mark tells whether it is another one now: the partner's leaving is all that is
        // known.
        outcome.unshared.emplace_back(changed.front(), exited ? UnshareCause::kExit : UnshareCause::kUnmap);
      } else {
        // The last holder reuses its frame, so it can only have been moved: one copy less than members, by whom is
        // unknown.
        outcome.broke_unknown = changed.front();
        outcome.unknown_breaks = changed.size() - 1;
      }
    }
  }

  if (outcome.stay.size() == 1 && outcome.away.empty()) {
    outcome.alone = outcome.stay.front();
    outcome.stay.clear();
    outcome.alone_without_copy = exited || dropped;
    outcome.alone_cause = exited ? UnshareCause::kExit : UnshareCause::kUnmap;
  } else if (outcome.stay.empty() && outcome.away.size() == 1) {
    outcome.away.clear();
  }
}

Ledger::Ledger(size_t pages_per_window, uint64_t zero_frame, LedgerBudget* budget)
    : pages_(pages_per_window), words_((pages_per_window + 63) / 64), zero_frame_(zero_frame), budget_(budget) {}

Ledger::~Ledger() {
  if (budget_ == nullptr) return;
  for (const auto& [number, record] : windows_) budget_->used_bytes -= record.bytes;
}

void Ledger::BeginPass(std::span<const Slot> standing_for) {
  standing_for_.assign(standing_for.begin(), standing_for.end());
  orphans_.clear();
  for (Moved& moved : moved_) {
    const bool stands = Contains(standing_for_, moved.slot);
    moved.now = stands ? procfs::kPagemapPresent | moved.frame : kNotRead;
    moved.recalled = stands;
  }
}

void Ledger::Depart(Slot slot) {
  if (!IsDeparting(slot)) departing_.push_back(slot);
  unmatched_.erase(slot);
}

bool Ledger::IsDeparting(Slot slot) const { return Contains(departing_, slot); }

std::vector<uint64_t> Ledger::Windows() const {
  std::vector<uint64_t> windows;
  windows.reserve(windows_.size());
  for (const auto& [window, record] : windows_) windows.push_back(window);
  for (const Moved& moved : moved_) windows.push_back(moved.page / pages_);
  std::sort(windows.begin(), windows.end());
  windows.erase(std::unique(windows.begin(), windows.end()), windows.end());
  return windows;
}

std::span<uint64_t> Ledger::Held(Window& window, Slot slot) {
  if (window.held.size() < (slot + size_t{1}) * words_) window.held.resize((slot + size_t{1}) * words_);
  return {window.held.data() + slot * words_, words_};
}

std::span<const uint64_t> Ledger::Held(const Window& window, Slot slot) const {
  if (window.held.size() < (slot + size_t{1}) * words_) return {};
  return {window.held.data() + slot * words_, words_};
}

std::span<Ledger::Moved> Ledger::MovedIn(uint64_t window) {
  const auto before = [](const Moved& moved, uint64_t page) { return moved.page < page; };
  const auto first = std::lower_bound(moved_.begin(), moved_.end(), window * pages_, before);
  const auto last = std::lower_bound(first, moved_.end(), (window + 1) * pages_, before);
  return {first, last};
}

std::span<const Ledger::Moved> Ledger::MovedIn(uint64_t window) const {
  return const_cast<Ledger*>(this)->MovedIn(window);  // NOLINT(cppcoreguidelines-pro-type-const-cast): same lookup
}

// Windows whose frames were dropped: the frame that two holders have in common is the one they share. Where there is
// none, no holder's is taken for it, and the verdict rests on the kernel's marks.
void Ledger::RecallFrames(const Window& record, std::span<const Reading> readings, Examination& examination) const {
  std::vector<uint64_t>& frames = examination.candidates;
  for (size_t i = 0; i < readings.size(); ++i) {
    const std::span<const uint64_t> held = Held(record, readings[i].slot);
    if (held.empty()) continue;
    ForEachBit(held, [&](size_t page) {
      if (frames[page] != kNoFrame && frames[page] != kForgottenFrame) return;
      frames[page] = kForgottenFrame;
      const uint64_t frame = examination.members[i].frames[page];
      for (size_t j = i + 1; j < readings.size() && frame != kNoFrame; ++j) {
        const std::span<const uint64_t> other = Held(record, readings[j].slot);
        if (!other.empty() && TestBit(other, page) && examination.members[j].frames[page] == frame)
          frames[page] = frame;
      }
    });
  }
  for (const Slot slot : departing_) {
    const std::span<const uint64_t> held = Held(record, slot);
    ForEachBit(held, [&](size_t page) {
      if (frames[page] == kNoFrame) frames[page] = kForgottenFrame;
    });
  }
}

void Ledger::Recall(uint64_t window, Slot slot, std::span<uint64_t> entries) const {
  std::fill(entries.begin(), entries.end(), 0);
  const auto found = windows_.find(window);
  if (found == windows_.end() || found->second.frames.empty()) return;
  const Window& record = found->second;
  ForEachBit(Held(record, slot), [&](size_t page) { entries[page] = procfs::kPagemapPresent | record.frames[page]; });
  for (const Extra& extra : record.extras) {
    if (Contains(extra.holders, slot)) entries[extra.page] = procfs::kPagemapPresent | extra.frame;
  }
}

bool Ledger::RemembersAlike(uint64_t window, Slot a, Slot b) const {
  const auto found = windows_.find(window);
  if (found == windows_.end() || found->second.frames.empty()) return true;
  const Window& record = found->second;
  const auto holds_extra = [a, b](const Extra& extra) { return Contains(extra.holders, a) || Contains(extra.holders, b); };
  if (std::any_of(record.extras.begin(), record.extras.end(), holds_extra)) return false;
  const std::span<const uint64_t> left = Held(record, a);
  const std::span<const uint64_t> right = Held(record, b);
  return std::equal(left.begin(), left.end(), right.begin(), right.end());
}

bool Ledger::IsRestless(uint64_t window) const {
  if (!MovedIn(window).empty()) return true;
  const auto found = windows_.find(window);
  if (found == windows_.end()) return false;
  const Window& record = found->second;
  return !record.away.empty() || std::any_of(departing_.begin(), departing_.end(), [&](Slot slot) {
    return CountBits(Held(record, slot)) != 0 ||
           std::any_of(record.extras.begin(), record.extras.end(),
                       [slot](const Extra& extra) { return Contains(extra.holders, slot); });
  });
}

bool Ledger::HoldsAnything(const Window& record) const {
  return !record.extras.empty() || !record.away.empty() ||
         std::any_of(record.held.begin(), record.held.end(), [](uint64_t word) { return word != 0; });
}

void Ledger::Charge(Window& record) {
  uint64_t bytes = sizeof(uint64_t) + sizeof(Window) + record.frames.capacity() * sizeof(uint64_t) +
                   record.held.capacity() * sizeof(uint64_t) + record.extras.capacity() * sizeof(Extra) +
                   record.away.capacity() * sizeof(Away);
  for (const Extra& extra : record.extras) bytes += extra.holders.capacity() * sizeof(Slot);
  if (budget_ != nullptr) budget_->used_bytes += bytes - record.bytes;
  record.bytes = bytes;
}

void Ledger::Examine(uint64_t window, std::span<const Reading> readings, const Circumstances& circumstances,
                     Examination& examination) const {
  Examination& e = examination;
  const bool ksm_in_use = circumstances.ksm_in_use;
  e.swapped_in = circumstances.swapped_in;
  e.questions.clear();
  e.witnesses.clear();
  e.attention.assign(words_, 0);
  e.unstable.assign(words_, 0);
  e.candidates.assign(pages_, kNoFrame);
  e.grouped.assign(words_, 0);
  e.pairs.assign(words_, 0);
  e.unchanged.assign(words_, 0);
  e.quiet = true;
  const size_t count = readings.size();
  if (e.members.size() < count) e.members.resize(count);

  const auto found = windows_.find(window);
  const Window* record = found == windows_.end() ? nullptr : &found->second;
  const std::span<const Moved> moved = MovedIn(window);

  // Members that read the same as the first one share its decoded form.
  std::vector<uint32_t> alias(count, kNoReading);
  for (uint32_t r = 0; r < count; ++r) {
    Examination::Member& member = e.members[r];
    member.anon.resize(words_);
    member.maybe_shared.resize(words_);
    member.away.resize(words_);
    member.current.assign(words_, 0);
    const std::span<const uint64_t> entries(readings[r].entries, pages_);
    if (r > 0 && moved.empty()) {
      // The first, or the one before: members without the mapping follow each other.
      for (const uint32_t other : {uint32_t{0}, r - 1}) {
        if (readings[other].entries == readings[r].entries ||
            std::memcmp(readings[other].entries, readings[r].entries, pages_ * sizeof(uint64_t)) == 0) {
          alias[r] = alias[other] == kNoReading ? other : alias[other];
          break;
        }
      }
    }
    if (alias[r] != kNoReading) {
      const Examination::Member& same = e.members[alias[r]];
      member.frames = same.frames;
      member.anon = same.anon;
      member.maybe_shared = same.maybe_shared;
      member.away = same.away;
      continue;
    }
    Decode(entries, zero_frame_, member);
    for (const Moved& elsewhere : moved) {
      if (elsewhere.slot != readings[r].slot) continue;
      const size_t page = elsewhere.page % pages_;
      member.own_frames[page] = kNoFrame;
      ClearBit(member.anon, page);
      ClearBit(member.maybe_shared, page);
    }
  }

  // Candidates: the recorded frame, else the first member's that has one.
  if (record != nullptr) {
    if (record->frames.empty()) {
      RecallFrames(*record, readings, e);
    } else {
      e.candidates = record->frames;
    }
    for (size_t page = 0; page < pages_; ++page) {
      if (e.candidates[page] != kNoFrame) SetBit(e.grouped, page);
    }
  }
  std::vector<uint64_t> covered = e.grouped;
  std::vector<uint64_t> anybody(words_, 0);
  std::vector<uint64_t> several(words_, 0);
  for (uint32_t r = 0; r < count; ++r) {
    const Examination::Member& member = e.members[r];
    for (size_t w = 0; w < words_; ++w) {
      several[w] |= anybody[w] & member.anon[w];
      anybody[w] |= member.anon[w];
      for (uint64_t rest = member.anon[w] & ~covered[w]; rest != 0; rest &= rest - 1) {
        const size_t page = w * 64 + static_cast<size_t>(std::countr_zero(rest));
        e.candidates[page] = member.frames[page];
      }
      covered[w] |= member.anon[w];
    }
  }
  for (uint32_t r = 0; r < count; ++r) {
    Examination::Member& member = e.members[r];
    if (alias[r] != kNoReading) {
      member.current = e.members[alias[r]].current;
    } else if (CountBits(member.anon) != 0) {
      MarkEqual(member.frames, e.candidates, member.current);
    }
  }
  std::vector<uint64_t> once(words_, 0);
  for (uint32_t r = 0; r < count; ++r) {
    for (size_t w = 0; w < words_; ++w) {
      e.pairs[w] |= once[w] & e.members[r].current[w];
      once[w] |= e.members[r].current[w];
    }
  }

  // What needs a look page by page, and whether anything changed at all.
  for (uint32_t r = 0; r < count; ++r) {
    const Examination::Member& member = e.members[r];
    const std::span<const uint64_t> held =
        record == nullptr ? std::span<const uint64_t>() : Held(*record, readings[r].slot);
    for (size_t w = 0; w < words_; ++w) {
      const uint64_t has = held.empty() ? 0 : held[w];
      const uint64_t gained = member.current[w] & ~has;
      const uint64_t sharing = gained & (e.grouped[w] | e.pairs[w]);
      const uint64_t unassigned = member.anon[w] & ~(member.current[w] & (e.grouped[w] | e.pairs[w]));
      e.attention[w] |= has & ~member.current[w];
      e.attention[w] |= sharing & (ksm_in_use ? ~uint64_t{0} : ~member.maybe_shared[w]);
      e.attention[w] |= unassigned & member.maybe_shared[w];
      if (ksm_in_use) e.unchanged[w] |= has & member.current[w];
      if (sharing != 0) e.quiet = false;
    }
    if (readings[r].first_look && !readings[r].is_root) {
      for (uint32_t other = 0; other < count; ++other) {
        const Examination::Member& relative = e.members[other];
        if (relative.frames == member.frames) continue;  // it reads the same
        for (size_t w = 0; w < words_; ++w) {
          for (uint64_t rest = member.anon[w] & relative.anon[w]; rest != 0; rest &= rest - 1) {
            const size_t page = w * 64 + static_cast<size_t>(std::countr_zero(rest));
            if (relative.frames[page] != member.frames[page]) SetBit(e.attention, page);
          }
        }
      }
    }
    // Bit 56 of a PMD-mapped huge page is its head's: it may say private where single pages are shared.
    const std::span<const uint64_t> entries(readings[r].entries, pages_);
    if (CountBits(member.anon) == pages_ && IsHugeRun(entries)) {
      for (size_t w = 0; w < words_; ++w) {
        const uint64_t unassigned = member.anon[w] & several[w] & ~(member.current[w] & (e.grouped[w] | e.pairs[w]));
        for (uint64_t rest = unassigned; rest != 0; rest &= rest - 1) {
          const size_t page = w * 64 + static_cast<size_t>(std::countr_zero(rest));
          for (uint32_t other = 0; other < count; ++other) {
            if (other != r && e.members[other].frames[page] == member.frames[page]) SetBit(e.attention, page);
          }
        }
      }
    }
  }
  if (record != nullptr) {
    for (const Away& away : record->away) SetBit(e.attention, away.page);
    for (const Extra& extra : record->extras) SetBit(e.attention, extra.page);
    for (const Slot slot : departing_) {
      const std::span<const uint64_t> held = Held(*record, slot);
      if (!held.empty() && CountBits(held) != 0) e.quiet = false;
    }
    // Somebody's page could not be read this time.
    if (!record->held.empty()) {
      const SlotIndex index(readings);
      for (Slot slot = 0; slot * words_ < record->held.size(); ++slot) {
        if (index.Find(slot) != kNoReading || IsDeparting(slot)) continue;
        const std::span<const uint64_t> held = Held(*record, slot);
        for (size_t w = 0; w < words_; ++w) e.attention[w] |= held[w];
      }
    }
  }
  // A departed member's page with an only holder that is mapped elsewhere too is judged singly: its partner may have
  // moved.
  if (record != nullptr && !departing_.empty()) {
    std::vector<uint64_t> leaving(words_, 0);
    for (const Slot slot : departing_) {
      const std::span<const uint64_t> held = Held(*record, slot);
      for (size_t w = 0; w < held.size(); ++w) leaving[w] |= held[w];
    }
    for (uint32_t r = 0; r < count; ++r) {
      for (size_t w = 0; w < words_; ++w) {
        e.attention[w] |= leaving[w] & e.members[r].current[w] & e.members[r].maybe_shared[w] & ~e.pairs[w];
      }
    }
  }
  FindDoubts(record, readings, e);
  for (size_t w = 0; w < words_; ++w) e.unchanged[w] &= ~e.attention[w];
  ForEachBit(e.unchanged, [&e](size_t page) { e.questions.push_back(e.candidates[page]); });
  if (CountBits(e.unchanged) != 0) e.quiet = false;
  if (CountBits(e.attention) == 0) return;
  e.quiet = false;

  // Questions and witnesses of those pages.
  const SlotIndex index(readings);
  ForEachBit(e.attention, [&](size_t page) {
    uint32_t lowest_same = kNoReading;
    uint32_t highest_same = kNoReading;
    uint32_t lowest_changed = kNoReading;
    uint32_t highest_changed = kNoReading;
    for (uint32_t r = 0; r < count; ++r) {
      const std::span<const uint64_t> held =
          record == nullptr ? std::span<const uint64_t>() : Held(*record, readings[r].slot);
      const bool has = !held.empty() && TestBit(held, page);
      const bool current = TestBit(e.members[r].current, page);
      const uint64_t frame = e.members[r].frames[page];
      if (ksm_in_use && has && frame != kNoFrame) e.questions.push_back(frame);
      if (has && current) {
        if (lowest_same == kNoReading) lowest_same = r;
        highest_same = r;
      } else if (has && frame != kNoFrame) {
        if (lowest_changed == kNoReading) lowest_changed = r;
        highest_changed = r;
      } else if (frame != kNoFrame) {
        const bool new_sharing = current && (TestBit(e.grouped, page) || TestBit(e.pairs, page));
        if (new_sharing && !TestBit(e.members[r].maybe_shared, page)) AddWitness(e.witnesses, r);
        if (ksm_in_use) e.questions.push_back(frame);
      }
      if (readings[r].first_look && !readings[r].is_root && frame != kNoFrame) {
        const uint32_t parent = index.Find(readings[r].parent);
        const bool parent_has = parent != kNoReading && e.members[parent].frames[page] != kNoFrame;
        e.questions.push_back(frame);
        for (uint32_t other = 0; other < count; ++other) {
          if (other == r || (parent_has && other != parent)) continue;
          if (e.members[other].frames[page] == kNoFrame) continue;
          e.questions.push_back(e.members[other].frames[page]);
          if (e.members[other].frames[page] != frame) AddWitness(e.witnesses, other);
        }
        AddWitness(e.witnesses, r);
      }
    }
    if (highest_changed == kNoReading) return;
    if (lowest_same == kNoReading || (e.swapped_in && lowest_same == highest_same)) {
      for (uint32_t r = 0; r < count; ++r) {
        if (e.members[r].frames[page] != kNoFrame) e.questions.push_back(e.members[r].frames[page]);
      }
    }
    if (lowest_same == kNoReading) {
      if (lowest_changed != highest_changed) AddWitness(e.witnesses, lowest_changed);
    } else if (highest_same < highest_changed) {
      AddWitness(e.witnesses, lowest_same);
    }
  });
}

// Which recalled pages have to be read before the window can be settled. A page that one holder has no more the others
// still have, if one of them is seen to have it; all have to be seen where their frame is another page's already, where
// several frames are shared at one address, and where a newcomer is compared with everybody.
void Ledger::FindDoubts(const Window* record, std::span<const Reading> readings, Examination& examination) const {
  Examination& e = examination;
  e.doubts.clear();
  std::vector<uint64_t> recalled_holders(words_, 0);
  bool any = false;
  const auto recalled = [&](uint32_t r) { return std::span<const uint64_t>(readings[r].recalled, words_); };
  const auto held = [&](uint32_t r) {
    return record == nullptr ? std::span<const uint64_t>() : Held(*record, readings[r].slot);
  };
  for (uint32_t r = 0; r < readings.size(); ++r) {
    if (readings[r].recalled == nullptr) continue;
    any = true;
    const std::span<const uint64_t> has = held(r);
    for (size_t w = 0; w < has.size(); ++w) recalled_holders[w] |= has[w] & recalled(r)[w];
  }
  if (!any) return;

  std::vector<uint64_t> from_holders(words_, 0);
  std::vector<uint64_t> from_everybody(words_, 0);
  const bool frames_known = record == nullptr || !record->frames.empty();
  if (!frames_known) from_everybody.assign(words_, ~uint64_t{0});
  if (record != nullptr) {
    for (const Away& away : record->away) SetBit(from_everybody, away.page);
    for (const Extra& extra : record->extras) SetBit(from_everybody, extra.page);
  }
  const SlotIndex index(readings);
  for (uint32_t r = 0; r < readings.size(); ++r) {
    const Examination::Member& member = e.members[r];
    for (size_t w = 0; w < words_; ++w) {
      const uint64_t read = readings[r].recalled == nullptr ? ~uint64_t{0} : ~recalled(r)[w];
      // Mapped once, it can't be what they share.
      from_holders[w] |= member.current[w] & ~member.maybe_shared[w] & read & recalled_holders[w];
    }
    if (!readings[r].first_look || readings[r].is_root) continue;
    const uint32_t parent = index.Find(readings[r].parent);
    for (size_t w = 0; w < words_; ++w) {
      from_everybody[w] |= member.anon[w] & (parent == kNoReading ? ~uint64_t{0} : ~e.members[parent].anon[w]);
    }
  }
  for (uint32_t r = 0; r < readings.size(); ++r) {
    if (readings[r].recalled == nullptr) continue;
    Doubt doubt{r, ~uint32_t{0}, 0};
    const std::span<const uint64_t> has = held(r);
    const auto add = [&doubt](size_t page) {
      doubt.first = std::min(doubt.first, static_cast<uint32_t>(page));
      doubt.last = std::max(doubt.last, static_cast<uint32_t>(page));
    };
    for (size_t w = 0; w < words_; ++w) {
      const uint64_t wanted = from_everybody[w] | (has.empty() ? 0 : from_holders[w] & has[w]);
      uint64_t rest = wanted & recalled(r)[w];
      for (; rest != 0; rest &= rest - 1) {
        const size_t page = w * 64 + static_cast<size_t>(std::countr_zero(rest));
        if (page < pages_) add(page);
      }
    }
    // One witness for each page that somebody lost: the first who remembers it and that nobody who was read still has.
    for (size_t w = 0; w < has.size(); ++w) {
      for (uint64_t rest = e.attention[w] & has[w] & recalled(r)[w]; rest != 0; rest &= rest - 1) {
        const size_t page = w * 64 + static_cast<size_t>(std::countr_zero(rest));
        bool seen = false;
        for (uint32_t other = 0; other < readings.size() && !seen; ++other) {
          const std::span<const uint64_t> of_other = held(other);
          if (of_other.empty() || !TestBit(of_other, page)) continue;
          const bool is_read = readings[other].recalled == nullptr || !TestBit(recalled(other), page);
          // An earlier one is asked already.
          seen = is_read ? TestBit(e.members[other].current, page) : other < r;
        }
        if (!seen) add(page);
      }
    }
    if (doubt.first <= doubt.last) e.doubts.push_back(doubt);
  }
}

// Judges one page of a window; the groups of the page are taken out of the record, evaluated and put back.
class Ledger::PageJudge {
 public:
  PageJudge(Ledger& ledger, uint64_t window, std::span<const Reading> readings, const FrameFacts& facts,
            const Examination& examination, Judgement& judgement)
      : ledger_(ledger),
        first_page_(window * ledger.pages_),
        readings_(readings),
        facts_(facts),
        e_(examination),
        judgement_(judgement),
        index_(readings) {
    for (const Reading& reading : readings) {
      huge_.push_back(!reading.hugetlb && IsHugeRun(std::span(reading.entries, ledger.pages_)));
    }
  }

  void Judge(Window& record, size_t page) {
    page_ = page;
    groups_.clear();
    counted_.clear();
    TakeGroups(record);
    std::vector<Group> kept;
    for (Group& group : groups_) Settle(group, kept);
    std::vector<uint32_t> single = Pair(kept);
    FirstLooks(kept);
    Orphans(single);
    PutGroups(record, kept);
  }

 private:
  uint64_t Page() const { return first_page_ + page_; }

  uint64_t FrameNow(uint32_t reading) const {
    const uint64_t frame = e_.members[reading].frames[page_];
    return frame != kNoFrame && facts_.IsKsm(frame) ? kNoFrame : frame;
  }

  Holder Describe(Slot slot, uint64_t recorded, bool was_away) const {
    using State = Holder::State;
    Holder holder{slot, State::kSame, kNoFrame, Page(), false, false};
    const uint32_t reading = index_.Find(slot);
    if (ledger_.IsDeparting(slot)) {
      holder.state = State::kGone;
    } else if (reading == kNoReading) {
      holder.state = State::kAway;
      holder.missed = !was_away;
    } else {
      const uint64_t entry = readings_[reading].entries[page_];
      holder.frame = FrameNow(reading);
      holder.huge_run = huge_[reading];
      if (holder.frame != kNoFrame) {
        const State elsewhere = was_away ? State::kReturned : State::kChanged;
        holder.state = holder.frame == recorded ? State::kSame : elsewhere;
      } else {
        holder.state = IsAway(entry) ? State::kAway : State::kDropped;
      }
    }
    return holder;
  }

  void TakeGroups(Window& record) {
    const auto add = [&](uint64_t frame, Slot slot, bool was_away) {
      auto group = std::find_if(groups_.begin(), groups_.end(), [&](const Group& g) { return g.frame == frame; });
      if (group == groups_.end()) group = groups_.insert(groups_.end(), Group{frame, {}, e_.swapped_in});
      group->holders.push_back(Describe(slot, frame, was_away));
    };
    if (record.frames[page_] != kNoFrame) {
      for (Slot slot = 0; slot * ledger_.words_ < record.held.size(); ++slot) {
        const std::span<uint64_t> held = ledger_.Held(record, slot);
        if (!TestBit(held, page_)) continue;
        add(record.frames[page_], slot, false);
        ClearBit(held, page_);
      }
      record.frames[page_] = kNoFrame;
    }
    for (const Extra& extra : record.extras) {
      if (extra.page != page_) continue;
      for (const Slot slot : extra.holders) add(extra.frame, slot, false);
    }
    for (const Away& away : record.away) {
      if (away.page == page_) add(away.frame, away.slot, !away.missed);
    }
    std::erase_if(record.extras, [&](const Extra& extra) { return extra.page == page_; });
    std::erase_if(record.away, [&](const Away& away) { return away.page == page_; });
  }

  void AddBreak(Slot slot, bool seen, bool side_known, const std::vector<Slot>& heirs) {
    Verdict verdict;
    verdict.kind = Verdict::Kind::kBreak;
    verdict.seen = seen;
    verdict.side_known = side_known;
    verdict.slot = slot;
    verdict.page = Page();
    verdict.heirs_begin = static_cast<uint32_t>(judgement_.heirs.size());
    judgement_.heirs.insert(judgement_.heirs.end(), heirs.begin(), heirs.end());
    verdict.heirs_end = static_cast<uint32_t>(judgement_.heirs.size());
    judgement_.verdicts.push_back(verdict);
  }

  void AddUnshared(Slot slot, UnshareCause cause) {
    Verdict verdict;
    verdict.kind = Verdict::Kind::kUnshared;
    verdict.cause = cause;
    verdict.slot = slot;
    verdict.page = Page();
    judgement_.verdicts.push_back(verdict);
  }

  void Settle(Group& group, std::vector<Group>& kept) {
    Evaluate(group, facts_, outcome_);
    const auto others = [&group](Slot slot) {
      std::vector<Slot> heirs;
      for (const Holder& holder : group.holders) {
        if (holder.slot != slot && holder.state != Holder::State::kDropped) heirs.push_back(holder.slot);
      }
      return heirs;
    };
    for (const Holder* holder : outcome_.broke) {
      AddBreak(holder->slot, true, true, others(holder->slot));
      counted_.emplace_back(holder->slot, group.frame);
    }
    for (uint64_t i = 0; i < outcome_.unknown_breaks; ++i) {
      AddBreak(outcome_.broke_unknown->slot, true, false, {});
    }
    for (const auto& [holder, cause] : outcome_.unshared) AddUnshared(holder->slot, cause);
    if (outcome_.alone != nullptr && outcome_.alone_without_copy) {
      const uint32_t reading = index_.Find(outcome_.alone->slot);
      if (TestBit(e_.members[reading].maybe_shared, page_)) {
        left_alone_.emplace_back(outcome_.alone->slot, outcome_.alone_cause);  // its partner may be at another address
      } else {
        AddUnshared(outcome_.alone->slot, outcome_.alone_cause);
      }
    }
    if (outcome_.stay.size() + outcome_.away.size() < 2) return;
    Group next{outcome_.frame, {}};
    for (const Holder* holder : outcome_.stay) next.holders.push_back(*holder);
    for (const Holder* holder : outcome_.away) {
      next.holders.push_back(*holder);
      if (holder->state == Holder::State::kChanged) next.holders.back().missed = true;
      next.holders.back().state = Holder::State::kAway;
    }
    kept.push_back(std::move(next));
  }

  static bool HoldsSlot(const Group& group, Slot slot) {
    return std::any_of(group.holders.begin(), group.holders.end(),
                       [slot](const Holder& holder) { return holder.slot == slot; });
  }

  // Joins members to groups of their frame and makes groups of those that share an unrecorded one. Returns the readings
  // that stay single.
  std::vector<uint32_t> Pair(std::vector<Group>& kept) {
    std::vector<uint32_t> single;
    for (uint32_t r = 0; r < readings_.size(); ++r) {
      const uint64_t frame = FrameNow(r);
      const Slot slot = readings_[r].slot;
      if (frame == kNoFrame) continue;
      if (std::any_of(kept.begin(), kept.end(), [slot](const Group& group) { return HoldsSlot(group, slot); }))
        continue;
      const auto group = std::find_if(kept.begin(), kept.end(), [frame](const Group& g) { return g.frame == frame; });
      if (group != kept.end()) {
        group->holders.push_back(Describe(slot, frame, false));
      } else {
        single.push_back(r);
      }
    }
    for (size_t i = 0; i < single.size(); ++i) {
      Group group{FrameNow(single[i]), {Describe(readings_[single[i]].slot, FrameNow(single[i]), false)}};
      for (size_t j = i + 1; j < single.size();) {
        if (FrameNow(single[j]) != group.frame) {
          ++j;
          continue;
        }
        group.holders.push_back(Describe(readings_[single[j]].slot, group.frame, false));
        single.erase(single.begin() + static_cast<std::ptrdiff_t>(j));
      }
      if (group.holders.size() < 2) continue;
      kept.push_back(std::move(group));
      single.erase(single.begin() + static_cast<std::ptrdiff_t>(i));
      --i;
    }
    return single;
  }

  void FirstLooks(const std::vector<Group>& kept) {
    for (uint32_t r = 0; r < readings_.size(); ++r) {
      if (readings_[r].first_look && !readings_[r].is_root && FrameNow(r) != kNoFrame) FirstLook(r, kept);
    }
  }

  bool IsChildOf(uint32_t reading, Slot parent) const { return readings_[reading].parent == parent; }

  void FirstLook(uint32_t r, const std::vector<Group>& kept) {
    const Slot slot = readings_[r].slot;
    const uint64_t frame = FrameNow(r);
    const auto group = std::find_if(kept.begin(), kept.end(), [slot](const Group& g) { return HoldsSlot(g, slot); });
    // Shared only with what it forked itself says nothing about the member's own origin.
    bool shares_origin = false;
    bool origin_was_seen = false;  // and somebody who was there at the last look has it
    std::vector<Slot> holders{slot};
    if (group != kept.end()) {
      for (const Holder& holder : group->holders) {
        if (holder.slot == slot) continue;
        holders.push_back(holder.slot);
        const uint32_t other = index_.Find(holder.slot);
        if (other == kNoReading || !IsChildOf(other, slot)) shares_origin = true;
        if (other == kNoReading || !readings_[other].first_look) origin_was_seen = true;
      }
    }
    const bool shares_descendants_only = group != kept.end() && !shares_origin;
    const std::optional<bool> exclusive = facts_.IsExclusive(frame);
    const bool forked = exclusive.has_value() && !*exclusive && !shares_descendants_only;

    const Slot parent_slot = readings_[r].parent;
    const uint32_t parent = index_.Find(parent_slot);
    if (parent != kNoReading) {
      const uint64_t parent_frame = FrameNow(parent);
      if (parent_frame == frame) return;
      if (parent_frame != kNoFrame) {
        const std::optional<bool> parent_exclusive = facts_.IsExclusive(parent_frame);
        if (forked) {
          // A parent that shared it with the one seen before is in the record, and judged by it. Another never had it:
          // the member is somebody else's fork, adopted by this one.
          if (!origin_was_seen && !Counted(parent_slot, frame)) AddBreak(parent_slot, false, true, holders);
        } else if (exclusive.has_value() && parent_exclusive.has_value() && !*parent_exclusive &&
                   !shares_descendants_only) {
          AddBreak(slot, false, true, {parent_slot});
        } else if (!shares_origin) {
          AddUnattributed(slot);
        }
        return;
      }
    }
    if (shares_origin) return;
    // Without its parent's page, its relatives' tell: one that has the original, or none.
    bool relative_present = false;
    std::vector<Slot> originals;
    for (uint32_t other = 0; other < readings_.size(); ++other) {
      const uint64_t other_frame = FrameNow(other);
      if (other == r || other_frame == kNoFrame || IsChildOf(other, slot)) continue;
      relative_present = true;
      const std::optional<bool> other_exclusive = facts_.IsExclusive(other_frame);
      if (other_exclusive.has_value() && !*other_exclusive) originals.push_back(readings_[other].slot);
    }
    if (!relative_present || forked) return;
    if (parent == kNoReading && exclusive.value_or(false) && !originals.empty() && !shares_descendants_only) {
      AddBreak(slot, false, true, originals);
    } else {
      AddUnattributed(slot);
    }
  }

  // A break of this frame by this member is in the judgement already; else notes it.
  bool Counted(Slot slot, uint64_t frame) {
    const std::pair key(slot, frame);
    if (std::find(counted_.begin(), counted_.end(), key) != counted_.end()) return true;
    counted_.push_back(key);
    return false;
  }

  void AddUnattributed(Slot slot) {
    Verdict verdict;
    verdict.kind = Verdict::Kind::kUnattributed;
    verdict.slot = slot;
    verdict.page = Page();
    judgement_.verdicts.push_back(verdict);
  }

  void Orphans(const std::vector<uint32_t>& single) {
    for (const uint32_t r : single) {
      if (!TestBit(e_.members[r].maybe_shared, page_)) continue;
      Orphan orphan{FrameNow(r), Page(), readings_[r].slot, false, UnshareCause::kUnknown};
      for (const auto& [slot, cause] : left_alone_) {
        if (slot != orphan.slot) continue;
        orphan.was_shared = true;
        orphan.cause = cause;
      }
      ledger_.orphans_.push_back(orphan);
    }
    left_alone_.clear();
  }

  void PutGroups(Window& record, const std::vector<Group>& kept) {
    const Group* main = nullptr;
    const auto present = [](const Group& group) {
      return std::count_if(group.holders.begin(), group.holders.end(),
                           [](const Holder& holder) { return holder.state != Holder::State::kAway; });
    };
    for (const Group& group : kept) {
      if (main == nullptr || present(group) > present(*main)) main = &group;
    }
    for (const Group& group : kept) {
      Extra extra{static_cast<uint32_t>(page_), group.frame, {}};
      for (const Holder& holder : group.holders) {
        if (holder.state == Holder::State::kAway) {
          record.away.push_back({static_cast<uint32_t>(page_), group.frame, holder.slot, holder.missed});
        } else if (&group == main) {
          SetBit(ledger_.Held(record, holder.slot), page_);
        } else {
          extra.holders.push_back(holder.slot);
        }
      }
      if (&group == main) {
        record.frames[page_] = group.frame;
      } else if (!extra.holders.empty()) {
        record.extras.push_back(std::move(extra));
      }
    }
  }

  Ledger& ledger_;
  uint64_t first_page_;
  std::span<const Reading> readings_;
  const FrameFacts& facts_;
  const Examination& e_;
  Judgement& judgement_;
  SlotIndex index_;
  std::vector<bool> huge_;
  size_t page_ = 0;
  std::vector<Group> groups_;
  Outcome outcome_;
  std::vector<std::pair<Slot, uint64_t>> counted_;         // (breaker, frame it broke) on this page
  std::vector<std::pair<Slot, UnshareCause>> left_alone_;  // on this page
};

void Ledger::SettleBulk(Window& record, std::span<const Reading> readings, const Examination& examination,
                        std::span<const uint64_t> judged, uint64_t first_page, Judgement& judgement) {
  const Examination& e = examination;
  std::vector<uint64_t> leaving(words_, 0);
  for (const Slot slot : departing_) {
    if (record.held.size() < (slot + size_t{1}) * words_) continue;
    const std::span<uint64_t> held = Held(record, slot);
    for (size_t w = 0; w < words_; ++w) {
      leaving[w] |= held[w] & ~judged[w];
      held[w] &= judged[w];
    }
  }
  for (size_t w = 0; w < words_; ++w) {
    for (uint64_t rest = e.pairs[w] & ~e.grouped[w] & ~judged[w]; rest != 0; rest &= rest - 1) {
      const size_t page = w * 64 + static_cast<size_t>(std::countr_zero(rest));
      record.frames[page] = e.candidates[page];
    }
  }
  for (uint32_t r = 0; r < readings.size(); ++r) {
    const std::span<uint64_t> held = Held(record, readings[r].slot);
    for (size_t w = 0; w < words_; ++w) {
      held[w] |= e.members[r].current[w] & (e.pairs[w] | e.grouped[w]) & ~judged[w];
    }
  }
  // Pages that lost a member by its end and have one holder left, or none.
  for (const Reading& reading : readings) {
    const std::span<uint64_t> held = Held(record, reading.slot);
    Verdict verdict;
    verdict.kind = Verdict::Kind::kUnshared;
    verdict.cause = UnshareCause::kExit;
    verdict.slot = reading.slot;
    verdict.pages = 0;
    for (size_t w = 0; w < words_; ++w) {
      const uint64_t alone = held[w] & leaving[w] & ~e.pairs[w];
      if (alone == 0) continue;
      if (verdict.pages == 0) verdict.page = first_page + w * 64 + static_cast<size_t>(std::countr_zero(alone));
      verdict.pages += static_cast<uint64_t>(std::popcount(alone));
      held[w] &= ~alone;
    }
    if (verdict.pages != 0) judgement.verdicts.push_back(verdict);
  }
  for (size_t w = 0; w < words_; ++w) {
    for (uint64_t rest = leaving[w] & ~e.pairs[w]; rest != 0; rest &= rest - 1) {
      record.frames[w * 64 + static_cast<size_t>(std::countr_zero(rest))] = kNoFrame;
    }
  }
}

void Ledger::Settle(uint64_t window, std::span<const Reading> readings, const FrameFacts& facts,
                    const Examination& examination, Judgement& judgement, WindowSharing& sharing) {
  for (Moved& moved : MovedIn(window)) {
    for (const Reading& reading : readings) {
      const size_t page = moved.page % pages_;
      const bool read = reading.recalled == nullptr || !TestBit({reading.recalled, words_}, page);
      if (reading.slot != moved.slot || !read) continue;
      moved.now = reading.entries[page];
      moved.recalled = false;
    }
  }
  std::vector<uint64_t> attention = examination.attention;
  ForEachBit(examination.unchanged, [&](size_t page) {
    // KSM makes the first page of those that it merges its own, where it is: the frame does not change.
    if (facts.IsKsm(examination.candidates[page])) SetBit(attention, page);
  });
  auto found = windows_.find(window);
  const size_t orphans_before = orphans_.size();
  if (!examination.quiet) {
    if (found == windows_.end()) {
      found = windows_.emplace(window, Window()).first;
      found->second.frames.assign(pages_, kNoFrame);
    }
    Window& record = found->second;
    if (record.frames.empty()) {
      record.frames.assign(pages_, kNoFrame);
      ForEachBit(examination.grouped, [&](size_t page) { record.frames[page] = examination.candidates[page]; });
    }
    std::vector<uint64_t> judged(words_);
    std::vector<uint64_t> singly(words_);
    for (size_t w = 0; w < words_; ++w) {
      judged[w] = attention[w] | examination.unstable[w];
      singly[w] = attention[w] & ~examination.unstable[w];
    }
    SettleBulk(record, readings, examination, judged, window * pages_, judgement);
    if (CountBits(singly) != 0) {
      PageJudge judge(*this, window, readings, facts, examination, judgement);
      ForEachBit(singly, [&](size_t page) { judge.Judge(record, page); });
    }
    Charge(record);
    if (budget_ != nullptr && budget_->used_bytes > budget_->limit_bytes) {
      record.frames = std::vector<uint64_t>();
      Charge(record);
    }
    if (!HoldsAnything(record)) {
      if (budget_ != nullptr) budget_->used_bytes -= record.bytes;
      windows_.erase(found);
      found = windows_.end();
    }
  }
  DescribeWindow(found == windows_.end() ? nullptr : &found->second, readings, facts, examination, attention, sharing);
  for (size_t r = 0; r < readings.size(); ++r) {
    sharing.members[r].has_orphans =
        std::any_of(orphans_.begin() + static_cast<std::ptrdiff_t>(orphans_before), orphans_.end(),
                    [&](const Orphan& orphan) { return orphan.slot == readings[r].slot; });
  }
}

void Ledger::DescribeWindow(const Window* record, std::span<const Reading> readings, const FrameFacts& facts,
                            const Examination& examination, std::span<const uint64_t> attention,
                            WindowSharing& sharing) const {
  sharing.members.resize(readings.size());
  sharing.exposure_pages = 0;
  sharing.unresolved_pages = 0;
  uint64_t held_pages = 0;
  std::vector<uint64_t> groups(words_, 0);
  for (uint32_t r = 0; r < readings.size(); ++r) {
    WindowSharing::Member& member = sharing.members[r];
    member.shared.assign(words_, 0);
    member.ksm_pages = 0;
    if (record == nullptr) continue;
    const std::span<const uint64_t> held = Held(*record, readings[r].slot);
    for (size_t w = 0; w < held.size(); ++w) {
      member.shared[w] = held[w];
      groups[w] |= held[w];
    }
    held_pages += CountBits(held);
  }
  sharing.exposure_pages = held_pages - CountBits(groups);
  ForEachBit(attention, [&](size_t page) {
    for (uint32_t r = 0; r < readings.size(); ++r) {
      const uint64_t frame = examination.members[r].frames[page];
      if (frame != kNoFrame && facts.IsKsm(frame)) ++sharing.members[r].ksm_pages;
    }
  });
  for (size_t w = 0; w < words_; ++w) {
    uint64_t here = 0;
    for (size_t r = 0; r < readings.size(); ++r) here |= examination.members[r].anon[w];
    for (size_t r = 0; r < readings.size(); ++r) {
      sharing.unresolved_pages += static_cast<uint64_t>(std::popcount(examination.members[r].away[w] & here));
    }
  }
  if (record == nullptr) return;
  const SlotIndex index(readings);
  for (const Extra& extra : record->extras) {
    for (const Slot slot : extra.holders) {
      const uint32_t reading = index.Find(slot);
      if (reading != kNoReading) SetBit(sharing.members[reading].shared, extra.page);
    }
    sharing.exposure_pages += extra.holders.size() - 1;
  }
}

std::vector<PageOfMember> Ledger::MovedInDoubt() const {
  std::vector<uint64_t> lost;  // frames that a holder who was read has no more
  for (const Moved& moved : moved_) {
    if (!moved.recalled && AnonFrame(moved.now, zero_frame_) != moved.frame) lost.push_back(moved.frame);
  }
  std::sort(lost.begin(), lost.end());
  std::vector<PageOfMember> doubts;
  for (const Moved& moved : moved_) {
    if (moved.recalled && std::binary_search(lost.begin(), lost.end(), moved.frame))
      doubts.push_back({moved.slot, moved.page});
  }
  return doubts;
}

void Ledger::ConfirmMoved(const PageOfMember& page, uint64_t entry) {
  for (Moved& moved : MovedIn(page.page / pages_)) {
    if (moved.page != page.page || moved.slot != page.slot) continue;
    moved.now = entry;
    moved.recalled = false;
  }
}

std::vector<uint64_t> Ledger::OrphanFrames() const {
  std::vector<uint64_t> frames;
  frames.reserve(orphans_.size());
  for (const Orphan& orphan : orphans_) frames.push_back(orphan.frame);
  for (const Moved& moved : moved_) {
    const uint64_t frame = AnonFrame(moved.now, zero_frame_);
    if (frame != kNoFrame && frame != moved.frame) frames.push_back(frame);
    frames.push_back(moved.frame);
  }
  std::sort(frames.begin(), frames.end());
  frames.erase(std::unique(frames.begin(), frames.end()), frames.end());
  return frames;
}

void Ledger::FinishPass(const FrameFacts& facts, Judgement& judgement, MovedSharing& moved_sharing) {
  using State = Holder::State;
  int64_t shared_pages = 0;
  int64_t exposure_pages = 0;
  moved_sharing = MovedSharing();
  const auto unshared = [&judgement](Slot slot, uint64_t page, UnshareCause cause) {
    Verdict verdict;
    verdict.kind = Verdict::Kind::kUnshared;
    verdict.cause = cause;
    verdict.slot = slot;
    verdict.page = page;
    judgement.verdicts.push_back(verdict);
  };

  // 1. What became of the pages that were matched before.
  std::map<uint64_t, std::vector<Moved>> groups;  // by frame
  {
    std::sort(moved_.begin(), moved_.end(), [](const Moved& a, const Moved& b) { return a.frame < b.frame; });
    Group group;
    Outcome outcome;
    for (size_t begin = 0; begin < moved_.size();) {
      size_t end = begin;
      group.frame = moved_[begin].frame;
      group.holders.clear();
      for (; end < moved_.size() && moved_[end].frame == group.frame; ++end) {
        const Moved& moved = moved_[end];
        Holder holder{moved.slot, State::kDropped, AnonFrame(moved.now, zero_frame_), moved.page, false, false};
        if (IsDeparting(moved.slot)) {
          holder.state = State::kGone;
        } else if (holder.frame != kNoFrame && !facts.IsKsm(holder.frame)) {
          holder.state = holder.frame == group.frame ? State::kSame : State::kChanged;
        } else if (moved.now == kNotRead || IsAway(moved.now)) {
          holder.state = State::kAway;
        }
        group.holders.push_back(holder);
      }
      begin = end;
      Evaluate(group, facts, outcome);
      for (const Holder* holder : outcome.broke) {
        Verdict verdict;
        verdict.slot = holder->slot;
        verdict.page = holder->page;
        verdict.heirs_begin = static_cast<uint32_t>(judgement.heirs.size());
        for (const Holder& other : group.holders) {
          if (other.slot != holder->slot) judgement.heirs.push_back(other.slot);
        }
        verdict.heirs_end = static_cast<uint32_t>(judgement.heirs.size());
        judgement.verdicts.push_back(verdict);
      }
      for (uint64_t i = 0; i < outcome.unknown_breaks; ++i) {
        Verdict verdict;
        verdict.slot = outcome.broke_unknown->slot;
        verdict.side_known = false;
        verdict.page = outcome.broke_unknown->page;
        judgement.verdicts.push_back(verdict);
      }
      for (const auto& [holder, cause] : outcome.unshared) unshared(holder->slot, holder->page, cause);
      if (outcome.alone != nullptr && outcome.alone_without_copy) {
        orphans_.push_back({outcome.alone->frame, outcome.alone->page, outcome.alone->slot, true, outcome.alone_cause});
      }
      if (outcome.stay.size() + outcome.away.size() < 2) continue;
      std::vector<Moved>& kept = groups[outcome.frame];
      for (const Holder* holder : outcome.stay) {
        kept.push_back({holder->page, holder->slot, outcome.frame, procfs::kPagemapPresent | outcome.frame});
      }
      for (const Holder* holder : outcome.away) kept.push_back({holder->page, holder->slot, outcome.frame, 0});
    }
  }

  // 2. Pages without a partner at their address, by frame.
  std::sort(orphans_.begin(), orphans_.end(), [](const Orphan& a, const Orphan& b) {
    return std::tuple(a.frame, a.slot, a.page) < std::tuple(b.frame, b.slot, b.page);
  });
  std::unordered_map<uint64_t, std::span<const Orphan>> unmatched;
  std::unordered_map<Slot, uint64_t> unmatched_now;
  const auto add_orphans = [](std::vector<Moved>& group, std::span<const Orphan> run) {
    for (const Orphan& orphan : run) {
      group.push_back({orphan.page, orphan.slot, orphan.frame, procfs::kPagemapPresent | orphan.frame});
    }
  };
  for (size_t begin = 0; begin < orphans_.size();) {
    const uint64_t frame = orphans_[begin].frame;
    size_t end = begin;
    while (end < orphans_.size() && orphans_[end].frame == frame) ++end;
    const std::span<const Orphan> run(orphans_.data() + begin, end - begin);
    begin = end;
    if (facts.IsKsm(frame)) continue;
    if (facts.MapCount(frame).value_or(2) <= 1) {  // bit 56 of a large folio speaks for all its pages
      for (const Orphan& orphan : run) {
        if (orphan.was_shared) unshared(orphan.slot, orphan.page, orphan.cause);
      }
      continue;
    }
    const auto known = groups.find(frame);
    if (known != groups.end()) {
      add_orphans(known->second, run);
    } else {
      unmatched.emplace(frame, run);
    }
  }
  // 3. Their partners may share the frame at an address of their own.
  if (!unmatched.empty()) {
    const auto take = [&](uint64_t page, uint64_t frame, const std::vector<Slot>& holders) {
      std::vector<Moved>& group = groups[frame];
      const auto found = unmatched.find(frame);
      if (found != unmatched.end()) {
        add_orphans(group, found->second);
        unmatched.erase(found);
      }
      for (const Slot slot : holders) group.push_back({page, slot, frame, procfs::kPagemapPresent | frame});
      // They were described as shared in their window.
      shared_pages -= static_cast<int64_t>(holders.size());
      exposure_pages -= static_cast<int64_t>(holders.size()) - 1;
    };
    for (auto& [number, record] : windows_) {
      for (uint32_t page = 0; page < record.frames.size(); ++page) {
        const uint64_t frame = record.frames[page];
        if (frame == kNoFrame || !unmatched.contains(frame)) continue;
        if (std::any_of(record.away.begin(), record.away.end(), [&](const Away& a) { return a.page == page; }))
          continue;
        std::vector<Slot> holders;
        for (Slot slot = 0; slot * words_ < record.held.size(); ++slot) {
          const std::span<uint64_t> held = Held(record, slot);
          if (!TestBit(held, page)) continue;
          holders.push_back(slot);
          ClearBit(held, page);
        }
        record.frames[page] = kNoFrame;
        take(number * pages_ + page, frame, holders);
      }
      std::erase_if(record.extras, [&, first = number * pages_](const Extra& extra) {
        if (!unmatched.contains(extra.frame)) return false;
        take(first + extra.page, extra.frame, extra.holders);
        return true;
      });
    }
  }
  for (const auto& [frame, run] : unmatched) {
    if (run.size() > 1) {
      add_orphans(groups[frame], run);
    } else {
      ++unmatched_now[run.front().slot];
    }
  }
  for (const Slot slot : standing_for_) {
    const auto known = unmatched_.find(slot);
    unmatched_now.erase(slot);
    if (known != unmatched_.end()) unmatched_now.insert(*known);
  }
  unmatched_ = std::move(unmatched_now);
  for (const auto& [slot, pages] : unmatched_) moved_sharing.unmatched_pages += pages;

  // 4. The new record.
  moved_.clear();
  for (auto& [frame, group] : groups) {
    int64_t here = 0;
    for (const Moved& moved : group) here += moved.now != 0 ? 1 : 0;
    if (here > 1) {
      shared_pages += here;
      exposure_pages += here - 1;
    }
    moved_.insert(moved_.end(), group.begin(), group.end());
  }
  std::sort(moved_.begin(), moved_.end(),
            [](const Moved& a, const Moved& b) { return std::pair(a.page, a.slot) < std::pair(b.page, b.slot); });
  moved_sharing.shared_pages = shared_pages;
  moved_sharing.exposure_pages = exposure_pages;
  orphans_.clear();
  orphans_.shrink_to_fit();

  // 5. Members that ended are settled everywhere, unless a page kept changing under the reads.
  std::erase_if(windows_, [this](auto& item) {
    const bool nothing = !HoldsAnything(item.second);
    if (nothing && budget_ != nullptr) budget_->used_bytes -= item.second.bytes;
    return nothing;
  });
  std::erase_if(departing_, [&](Slot slot) {
    return std::none_of(windows_.begin(), windows_.end(), [&](const auto& item) {
      const Window& record = item.second;
      const bool held = CountBits(Held(record, slot)) != 0;
      const bool extra = std::any_of(record.extras.begin(), record.extras.end(),
                                     [slot](const Extra& e) { return Contains(e.holders, slot); });
      const bool away =
          std::any_of(record.away.begin(), record.away.end(), [slot](const Away& a) { return a.slot == slot; });
      return held || extra || away;
    });
  });
}

size_t Ledger::MemoryBytes() const {
  size_t bytes = moved_.capacity() * sizeof(Moved) + orphans_.capacity() * sizeof(Orphan);
  for (const auto& [number, record] : windows_) bytes += record.bytes;
  return bytes;
}

}  // namespace cow::memory
