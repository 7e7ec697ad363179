#include "collectors/memory/moved_pages.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <tuple>
#include <utility>

#include "collectors/memory/frame_filter.h"
#include "collectors/memory/sort_unique.h"

namespace cow::memory {
namespace {

// What one pass may note of pages without a partner, however little memory is left.
constexpr uint64_t kPendingFloorBytes = uint64_t{2} << 20;

bool Contains(std::span<const uint64_t> sorted, uint64_t frame) {
  return std::binary_search(sorted.begin(), sorted.end(), frame);
}

// Also the memory, which clear() and an empty list would keep.
template <class Item>
void Release(std::vector<Item>& items) {
  std::vector<Item>().swap(items);
}

void AddUnshared(std::span<const OrphanPage> orphans, Judgement& judgement) {
  for (const OrphanPage& orphan : orphans) {
    if (orphan.was_shared) judgement.AddUnshared(orphan.slot, orphan.page, orphan.cause);
  }
}

// `may_have_moved`(holder): it may have moved the page instead of breaking it.
template <class MayHaveMoved>
void AddVerdicts(const FrameGroup& group, const GroupOutcome& outcome, MayHaveMoved&& may_have_moved,
                 Judgement& judgement) {
  std::vector<PageBreak> breaks;
  for (const FrameHolder* holder : outcome.broke) {
    if (may_have_moved(*holder)) {
      judgement.AddUnattributed(holder->slot, holder->page);
    } else {
      breaks.push_back({holder->slot, holder->page});
    }
  }
  std::vector<Slot> holders;
  for (const FrameHolder& holder : group.holders) holders.push_back(holder.slot);
  judgement.AddBreaks(breaks, holders);
  for (const FrameHolder* holder : outcome.broke_unknown) judgement.AddBreakOfUnknownSide(holder->slot, holder->page);
  for (const auto& [holder, cause] : outcome.unshared) judgement.AddUnshared(holder->slot, holder->page, cause);
}

// Calls visit(page within the window, frame, extra) for the frames of a record that nobody's absence makes uncertain;
// `extra` is null for the window's own.
template <class Visit>
void ForEachFrame(const PackedWindow& record, std::span<uint64_t> buffer, Visit&& visit) {
  const auto is_away = [&record](uint32_t page) {
    return std::any_of(record.away().begin(), record.away().end(),
                       [page](const WindowRecord::Away& away) { return away.page == page; });
  };
  if (record.has_frames()) {
    record.CopyFrames(buffer);
    for (uint32_t page = 0; page < buffer.size(); ++page) {
      if (buffer[page] != kNoFrame && (record.away().empty() || !is_away(page))) visit(page, buffer[page], nullptr);
    }
  }
  for (const WindowRecord::Extra& extra : record.extras()) visit(extra.page, extra.frame, &extra);
}

// `recorded`: the record's.
bool Holds(const PackedWindow& record, std::span<const uint64_t> recorded, size_t page, uint64_t frame, Slot slot) {
  for (const WindowRecord::Extra& extra : record.extras()) {
    if (extra.page == page && extra.frame == frame)
      return std::find(extra.holders.begin(), extra.holders.end(), slot) != extra.holders.end();
  }
  const std::span<const uint64_t> held = record.Held(slot, recorded);
  return !held.empty() && TestBit(held, page);
}

// Takes of the pairs of this frame those whose slot holds it, as `holds`(slot) tells. `pairs` is sorted.
template <class HoldsFrame>
void TakeWhere(std::span<const std::pair<uint64_t, Slot>> pairs, uint64_t frame,
               std::vector<std::pair<uint64_t, Slot>>& taken, HoldsFrame&& holds) {
  for (auto each = std::lower_bound(pairs.begin(), pairs.end(), std::pair(frame, Slot{0}));
       each != pairs.end() && each->first == frame; ++each) {
    if (holds(each->second)) taken.push_back(*each);
  }
}

// `recorded`: the record's.
uint64_t CountHoldersAt(const PackedWindow& record, std::span<const uint64_t> recorded, uint32_t page) {
  uint64_t holders = 0;
  for (Slot slot = 0; slot < record.SlotsEnd(); ++slot) {
    const std::span<const uint64_t> held = record.Held(slot, recorded);
    holders += !held.empty() && TestBit(held, page) ? 1U : 0U;
  }
  return holders;
}

}  // namespace

MovedPages::MovedPages(size_t pages_per_window, uint64_t zero_frame, LedgerBudget* budget)
    : pages_(pages_per_window),
      zero_frame_(zero_frame),
      budget_(budget),
      moved_charge_(budget, MemoryPurpose::kMoved),
      pending_charge_(budget, MemoryPurpose::kPending) {}

void MovedPages::Clear() {
  windows_.clear();
  Release(shared_by_slot_);
  has_unmatched_ = false;
  Release(stands_);
  Release(orphans_);
  uncounted_orphans_ = 0;
  Release(breaks_or_moves_);
  Release(heirs_);
  new_groups_ = false;
  doubles_.reset();
  moved_charge_.Set(0);
  pending_charge_.Set(0);
}

void MovedPages::BeginPass(std::span<const Slot> standing_for) {
  orphans_.clear();
  uncounted_orphans_ = 0;
  breaks_or_moves_.clear();
  heirs_.clear();
  doubles_.reset();
  remapped_.clear();
  stands_.clear();
  for (const Slot slot : standing_for) {
    if (slot >= stands_.size()) stands_.resize(slot + size_t{1});
    stands_[slot] = true;
  }
  for (MovedBlock* block : Blocks()) {
    block->ForgetChanges();
    for (size_t holder = 0; holder < block->holders(); ++holder) block->Expect(holder, Stands(block->SlotOf(holder)));
  }
}

std::vector<MovedBlock*> MovedPages::Blocks() {
  std::vector<MovedBlock*> blocks;
  for (auto& [window, of_window] : windows_) {
    for (MovedBlock& block : of_window) blocks.push_back(&block);
  }
  return blocks;
}

void MovedPages::MarkHeld(uint64_t window, Slot slot, std::span<uint64_t> bitmap) const {
  const auto found = windows_.find(window);
  if (found == windows_.end()) return;
  for (const MovedBlock& block : found->second) {
    const size_t holder = block.FindHolder(slot);
    if (holder == block.holders()) continue;
    ForEachBit(block.Held(holder), [&](size_t page) { SetBit(bitmap, (block.first() + page) % pages_); });
  }
}

std::vector<MovedPage> MovedPages::In(uint64_t window) const {
  std::vector<MovedPage> pages;
  const auto found = windows_.find(window);
  if (found == windows_.end()) return pages;
  for (const MovedBlock& block : found->second) block.AddPages(pages);
  return pages;
}

void MovedPages::Note(uint64_t window, std::span<const Reading> readings) {
  const auto found = windows_.find(window);
  if (found == windows_.end()) return;
  const SlotIndex index(readings);
  for (const Reading& reading : readings) {
    if (!reading.remapped) continue;
    if (reading.slot >= remapped_.size()) remapped_.resize(reading.slot + size_t{1});
    remapped_[reading.slot] = true;
  }
  for (MovedBlock& block : found->second) {
    for (size_t holder = 0; holder < block.holders(); ++holder) {
      const uint32_t r = index.Find(block.SlotOf(holder));
      if (r == kNoReading) continue;
      ForEachBit(block.Held(holder), [&](size_t page) {
        const size_t in_window = (block.first() + page) % pages_;
        if (readings[r].IsRead(in_window)) block.Note(holder, page, readings[r].entries[in_window], zero_frame_);
      });
    }
  }
}

void MovedPages::AddOrphan(const OrphanPage& orphan) {
  if (orphans_.size() == orphans_.capacity()) {
    constexpr size_t kFirst = 64;
    const size_t next = std::max(kFirst, orphans_.size() + orphans_.size() / 2);
    const uint64_t more = (next - orphans_.size()) * sizeof(OrphanPage);
    if (budget_ != nullptr && next * sizeof(OrphanPage) > kPendingFloorBytes && more > budget_->LeftBytes()) {
      ++uncounted_orphans_;
      return;
    }
    orphans_.reserve(next);
    BookPending();
  }
  orphans_.push_back(orphan);
}

void MovedPages::AddBreakOrMove(uint64_t frame, uint64_t page, Slot slot, std::span<const Slot> heirs) {
  const auto begin = static_cast<uint32_t>(heirs_.size());
  heirs_.insert(heirs_.end(), heirs.begin(), heirs.end());
  breaks_or_moves_.push_back({frame, page, slot, begin, static_cast<uint32_t>(heirs_.size())});
  BookPending();
}

Steps MovedPages::FindDoubts(std::vector<MovedPage>& doubts) {
  Pace pace;
  const std::vector<MovedBlock*> blocks = Blocks();
  std::vector<uint64_t> lost;  // frames that some member no longer maps where it did
  for (MovedBlock* block : blocks) {
    block->SortChanges();
    for (const MovedBlock::Change& change : block->changes()) lost.push_back(block->FrameAt(change.page));
    if (pace.IsDue(1 + 8 * block->changes().size())) co_await Rest();
  }
  if (lost.empty()) co_return;
  co_await SortUniqueInSteps(lost);
  std::vector<uint64_t> seen;  // lost frames that another member was read to map
  for (const MovedBlock* block : blocks) {
    for (size_t page = 0; page < block->pages(); ++page) {
      if (pace.IsDue(1 + block->holders())) co_await Rest();
      if (!Contains(lost, block->FrameAt(page))) continue;
      for (size_t holder = 0; holder < block->holders(); ++holder) {
        if (!block->IsHere(holder, page)) continue;
        const Slot slot = block->SlotOf(holder);
        if (Stands(slot)) {
          doubts.push_back({block->first() + page, block->FrameAt(page), slot, true});
        } else if (seen.empty() || seen.back() != block->FrameAt(page)) {
          seen.push_back(block->FrameAt(page));
        }
      }
    }
  }
  co_await SortUniqueInSteps(seen);
  std::erase_if(doubts, [&seen](const MovedPage& moved) { return Contains(seen, moved.frame); });
}

void MovedPages::Confirm(const MovedPage& page, uint64_t entry) {
  const auto found = windows_.find(page.page / pages_);
  if (found == windows_.end()) return;
  for (MovedBlock& block : found->second) {
    if (page.page < block.first() || page.page >= block.first() + block.pages()) continue;
    const size_t in_block = page.page - block.first();
    const size_t holder = block.FindHolder(page.slot);
    if (holder == block.holders() || !block.Holds(holder, in_block)) continue;
    if (block.FrameAt(in_block) == page.frame) block.Note(holder, in_block, entry, zero_frame_);
  }
}

Steps MovedPages::FindFrames(bool all, const WindowRecords& records, std::vector<uint64_t>& frames) {
  Pace pace;
  if (new_groups_) {
    std::vector<uint64_t> doubles;
    co_await FindDoubles(records, doubles);
    frames = doubles;
    doubles_ = std::move(doubles);
  }
  for (const OrphanPage& orphan : orphans_) frames.push_back(orphan.frame);
  for (const auto& [window, blocks] : windows_) {
    for (const MovedBlock& block : blocks) {
      for (size_t page = 0; page < block.pages(); ++page) {
        const size_t holders = block.CountHolders(page);
        if (holders != 0 && (all || block.CountHere(page) != holders)) frames.push_back(block.FrameAt(page));
        if (pace.IsDue(1 + block.holders())) co_await Rest();
      }
      for (const MovedBlock::Change& change : block.changes()) {
        const uint64_t frame = AnonFrame(change.entry, zero_frame_);
        if (frame != kNoFrame) frames.push_back(frame);
      }
    }
  }
  co_await SortUniqueInSteps(frames);
}

void MovedPages::AddWindows(std::vector<uint64_t>& windows) const {
  for (const auto& [window, blocks] : windows_) windows.push_back(window);
}

void MovedPages::AddSharedPages(std::vector<uint64_t>& pages) const {
  if (pages.size() < shared_by_slot_.size()) pages.resize(shared_by_slot_.size());
  for (size_t slot = 0; slot < shared_by_slot_.size(); ++slot) pages[slot] += shared_by_slot_[slot];
}

Steps MovedPages::Finish(const FrameFacts& facts, std::vector<Slot> departing, bool all_read, WindowRecords& records,
                         Judgement& judgement, MovedSharing& sharing) {
  sharing = MovedSharing();
  co_await SortOrphans();
  co_await FindMovedGroups(records);
  co_await JudgeBreaksOrMoves(judgement);
  co_await JudgeRecorded(facts, departing, judgement);
  co_await SortOrphans();
  std::vector<OrphanRun> unmatched;
  co_await MatchOrphans(facts, judgement, unmatched);
  co_await MatchRecords(unmatched, all_read, facts, records, judgement, sharing);
  sharing.unmatched_pages += uncounted_orphans_;
  has_unmatched_ = sharing.unmatched_pages != 0;
  co_await PackAdded();
  co_await PackSparse();
  co_await Count(sharing);
  Release(orphans_);
  Release(frames_);
  Release(moved_groups_);
  Release(unseen_);
  uncounted_orphans_ = 0;
  Release(breaks_or_moves_);
  Release(heirs_);
  BookMoved();
  BookPending();
}

Steps MovedPages::SortOrphans() { co_await SortInSteps(std::span(orphans_)); }

bool MovedPages::HasElsewhere(uint64_t frame, Slot slot) const {
  return HasOrphan(frame, slot) ||
         std::binary_search(moved_groups_.begin(), moved_groups_.end(), std::pair(frame, slot));
}

bool MovedPages::MayBeUnseen(Slot slot) const { return slot < unseen_.size() && unseen_[slot]; }

bool MovedPages::HasOrphan(uint64_t frame, Slot slot) const {
  const auto first = std::lower_bound(orphans_.begin(), orphans_.end(), std::pair(frame, slot),
                                      [](const OrphanPage& orphan, const std::pair<uint64_t, Slot>& wanted) {
                                        return std::pair(orphan.frame, orphan.slot) < wanted;
                                      });
  return first != orphans_.end() && first->frame == frame && first->slot == slot;
}

// Frames that a slot lost at one address and may hold in a group at another, sorted.
Steps MovedPages::FindLostFrames(std::vector<std::pair<uint64_t, Slot>>& lost) {
  Pace pace;
  for (const BreakOrMove& each : breaks_or_moves_) {
    if (each.frame != kForgottenFrame && !HasOrphan(each.frame, each.slot)) lost.emplace_back(each.frame, each.slot);
    if (pace.IsDue(8)) co_await Rest();
  }
  for (const MovedBlock* block : Blocks()) {
    for (const MovedBlock::Change& change : block->changes()) {
      const Slot slot = block->SlotOf(change.holder);
      if (slot >= remapped_.size() || !remapped_[slot]) continue;
      if (AnonFrame(change.entry, zero_frame_) != kNoFrame) lost.emplace_back(block->FrameAt(change.page), slot);
    }
    if (pace.IsDue(1 + block->changes().size())) co_await Rest();
  }
  co_await SortUniqueInSteps(lost);
}

Steps MovedPages::FindUnseen(std::span<const Slot> slots, const WindowRecords& records) {
  Pace pace;
  unseen_.assign(slots.back() + size_t{1}, false);
  for (const auto& [window, record] : records.all()) {
    if (record.has_frames()) continue;
    for (const Slot slot : slots) unseen_[slot] = unseen_[slot] || record.Concerns(slot);
    if (pace.IsDue(slots.size() * 8)) co_await Rest();
  }
}

Steps MovedPages::FindMovedGroups(const WindowRecords& records) {
  std::vector<std::pair<uint64_t, Slot>> lost;
  co_await FindLostFrames(lost);
  if (lost.empty()) co_return;
  std::vector<uint64_t> frames;
  std::vector<Slot> slots;
  for (const auto& [frame, slot] : lost) {
    if (frames.empty() || frames.back() != frame) frames.push_back(frame);
    slots.push_back(slot);
  }
  co_await SortUniqueInSteps(slots);
  co_await FindUnseen(slots, records);
  Pace pace;
  for (const MovedBlock* block : Blocks()) {
    for (size_t page = 0; page < block->pages(); ++page) {
      TakeWhere(lost, block->FrameAt(page), moved_groups_, [block, page](Slot slot) {
        const size_t holder = block->FindHolder(slot);
        return holder != block->holders() && block->IsHere(holder, page);
      });
      if (pace.IsDue(8)) co_await Rest();
    }
  }
  std::vector<RecordedPage> in_records;
  co_await FindRecorded(records, frames, pages_, in_records);
  std::vector<uint64_t> recorded((pages_ + 63) / 64);
  for (const RecordedPage& found : in_records) {
    const PackedWindow& record = *records.Find(found.page / pages_);
    record.CopyRecorded(recorded);
    TakeWhere(lost, found.frame, moved_groups_,
              [&](Slot slot) { return Holds(record, recorded, found.page % pages_, found.frame, slot); });
    if (pace.IsDue(64)) co_await Rest();
  }
  co_await SortUniqueInSteps(moved_groups_);
}

Steps MovedPages::JudgeBreaksOrMoves(Judgement& judgement) {
  Pace pace;
  for (const BreakOrMove& each : breaks_or_moves_) {
    if (pace.IsDue(32)) co_await Rest();
    if (HasElsewhere(each.frame, each.slot)) continue;
    if (each.frame == kForgottenFrame || MayBeUnseen(each.slot)) {
      judgement.AddUnattributed(each.slot, each.page);
      continue;
    }
    const std::span<const Slot> heirs(heirs_.data() + each.heirs_begin, each.heirs_end - each.heirs_begin);
    judgement.AddBreak(each.slot, each.page, true, heirs);
  }
}

Steps MovedPages::FindPlaces(std::span<MovedBlock* const> blocks, std::vector<Place>& places) {
  Pace pace;
  for (uint32_t block = 0; block < blocks.size(); ++block) {
    for (uint32_t page = 0; page < blocks[block]->pages(); ++page) {
      if (blocks[block]->CountHolders(page) != 0) places.push_back({blocks[block]->FrameAt(page), block, page});
    }
    if (pace.IsDue(blocks[block]->pages() * (1 + blocks[block]->holders()))) co_await Rest();
  }
  co_await SortInSteps(std::span(places));
}

// What became of the pages that were matched before.
Steps MovedPages::JudgeRecorded(const FrameFacts& facts, std::span<const Slot> departing, Judgement& judgement) {
  Pace pace;
  const std::vector<MovedBlock*> blocks = Blocks();
  std::vector<bool> departs;
  for (const Slot slot : departing) {
    if (slot >= departs.size()) departs.resize(slot + size_t{1});
    departs[slot] = true;
  }
  for (MovedBlock* block : blocks) {
    block->SortChanges();
    for (size_t holder = 0; holder < block->holders(); ++holder) {
      const Slot slot = block->SlotOf(holder);
      if (slot < departs.size() && departs[slot]) block->Expect(holder, false);
    }
    if (pace.IsDue(1 + block->holders() + 8 * block->changes().size())) co_await Rest();
  }
  std::vector<Place> places;
  co_await FindPlaces(blocks, places);
  for (size_t begin = 0; begin < places.size();) {
    size_t end = begin;
    bool all_here = true;
    for (; end < places.size() && places[end].frame == places[begin].frame; ++end) {
      const MovedBlock& block = *blocks[places[end].block];
      all_here = all_here && block.CountHere(places[end].page) == block.CountHolders(places[end].page);
      if (pace.IsDue((all_here ? 4 : 32) * (1 + block.holders()))) co_await Rest();
    }
    if (all_here && !facts.IsKsm(places[begin].frame)) {
      frames_.push_back(places[begin].frame);
    } else {
      JudgeFrame({places.data() + begin, end - begin}, blocks, facts, departs, judgement);
    }
    begin = end;
  }
  for (MovedBlock* block : blocks) block->ForgetChanges();
  co_await SortUniqueInSteps(frames_);
  for (const OrphanPage& orphan : left_alone_) AddOrphan(orphan);
  Release(left_alone_);
}

void MovedPages::JudgeFrame(std::span<const Place> places, std::span<MovedBlock* const> blocks, const FrameFacts& facts,
                            const std::vector<bool>& departs, Judgement& judgement) {
  struct Holder {
    MovedBlock* block;
    size_t holder;
    size_t page;
  };
  FrameGroup group{places.front().frame, {}};
  std::vector<Holder> holders;  // parallel to the group's
  for (const Place& place : places) {
    MovedBlock& block = *blocks[place.block];
    for (size_t holder = 0; holder < block.holders(); ++holder) {
      if (!block.Holds(holder, place.page)) continue;
      FrameHolder described = Describe(block, holder, place.page, facts);
      if (described.slot < departs.size() && departs[described.slot]) described.state = FrameHolder::State::kGone;
      group.holders.push_back(described);
      holders.push_back({&block, holder, place.page});
    }
  }
  const GroupOutcome outcome = JudgeGroup(group, facts);
  const auto known =
      static_cast<uint64_t>(std::count_if(group.holders.begin(), group.holders.end(), [](const FrameHolder& holder) {
        return holder.state == FrameHolder::State::kSame;
      }));
  const bool is_elsewhere = facts.MapCount(group.frame).value_or(known) > known;
  AddVerdicts(
      group, outcome, [&](const FrameHolder& holder) { return is_elsewhere && MayBeUnseen(holder.slot); }, judgement);
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
  // Its window left a holder's page to this group: one that has come in its place may be shared as well.
  for (size_t i = 0; i < holders.size(); ++i) {
    const FrameHolder& holder = group.holders[i];
    if (!has_left[i] || &holder == outcome.alone || holder.frame == kNoFrame) continue;
    if (facts.MapCount(holder.frame).value_or(1) > 1)
      left_alone_.push_back({holder.frame, holder.page, holder.slot, false, UnshareCause::kUnknown});
  }
}

FrameHolder MovedPages::Describe(const MovedBlock& block, size_t holder, size_t page, const FrameFacts& facts) const {
  using State = FrameHolder::State;
  const uint64_t recorded = block.FrameAt(page);
  FrameHolder described{.slot = block.SlotOf(holder), .state = State::kDropped, .page = block.first() + page};
  const MovedBlock::Change* change = block.FindChange(holder, page);
  if (block.IsHere(holder, page)) {
    described.frame = recorded;
  } else if (change != nullptr) {
    described.frame = AnonFrame(change->entry, zero_frame_);
  }
  if (described.frame != kNoFrame && !facts.IsKsm(described.frame)) {
    described.state = described.frame == recorded ? State::kSame : State::kChanged;
    described.large = described.state == State::kChanged && facts.IsOfLargeFolio(described.frame).value_or(false);
    // It moved on, and has another page in its place.
    if (described.state == State::kChanged && HasElsewhere(recorded, described.slot)) described.state = State::kDropped;
  } else if (!block.IsHere(holder, page) && (change == nullptr || IsAway(change->entry))) {
    described.state = State::kAway;
  }
  return described;
}

// Pages without a partner at their address join the group of their frame, or wait for one.
Steps MovedPages::MatchOrphans(const FrameFacts& facts, Judgement& judgement, std::vector<OrphanRun>& unmatched) {
  Pace pace;
  for (size_t begin = 0; begin < orphans_.size();) {
    const uint64_t frame = orphans_[begin].frame;
    size_t end = begin;
    while (end < orphans_.size() && orphans_[end].frame == frame) ++end;
    const OrphanRun orphans(orphans_.data() + begin, end - begin);
    begin = end;
    if (pace.IsDue(16 * orphans.size())) co_await Rest();
    if (facts.IsKsm(frame)) continue;
    if (facts.MapCount(frame).value_or(2) <= 1) {  // bit 56 of a large folio speaks for all its pages
      AddUnshared(orphans, judgement);
    } else if (Contains(frames_, frame)) {
      AddToGroup(orphans);
    } else {
      unmatched.push_back(orphans);
    }
  }
}

Steps MovedPages::FindDoubles(const WindowRecords& records, std::vector<uint64_t>& doubles) const {
  Pace pace;
  FrameFilter filter((windows_.size() + records.all().size()) * pages_);
  for (const auto& [window, blocks] : windows_) {
    for (const MovedBlock& block : blocks) {
      for (size_t page = 0; page < block.pages(); ++page) {
        if (block.CountHolders(page) != 0) filter.Add(block.FrameAt(page));
      }
      if (pace.IsDue(block.pages() * (1 + block.holders()))) co_await Rest();
    }
  }
  std::vector<uint64_t> buffer(pages_);
  for (const auto& [window, record] : records.all()) {
    ForEachFrame(record, buffer, [&](uint32_t /*page*/, uint64_t frame, const WindowRecord::Extra* /*extra*/) {
      if (filter.Add(frame)) doubles.push_back(frame);
    });
    if (pace.IsDue(pages_)) co_await Rest();
  }
  co_await SortUniqueInSteps(doubles);
}

Steps MovedPages::FindRecorded(const WindowRecords& records, std::span<const uint64_t> frames, size_t pages_per_window,
                               std::vector<RecordedPage>& found) {
  Pace pace;
  FrameFilter filter(frames.size());
  for (const uint64_t frame : frames) filter.Add(frame);
  std::vector<uint64_t> buffer(pages_per_window);
  std::vector<uint64_t> recorded((pages_per_window + 63) / 64);
  for (const auto& [window, record] : records.all()) {
    record.CopyRecorded(recorded);
    ForEachFrame(
        record, buffer,
        [&, window = window, &record = record](uint32_t page, uint64_t frame, const WindowRecord::Extra* extra) {
          if (!filter.MayHave(frame) || !Contains(frames, frame)) return;
          const uint64_t holders = extra == nullptr ? CountHoldersAt(record, recorded, page) : extra->holders.size();
          found.push_back({frame, window * pages_per_window + page, holders});
        });
    if (pace.IsDue(2 * pages_per_window)) co_await Rest();
  }
  co_await SortInSteps(std::span(found));
}

Steps MovedPages::FindTaken(std::span<const OrphanRun> unmatched, bool all_read, const FrameFacts& facts,
                            const WindowRecords& records, std::vector<RecordedPage>& taken, bool& doubles_left) {
  std::vector<uint64_t> waiting;  // frames of orphans, sorted as they are
  for (const OrphanRun& orphans : unmatched) waiting.push_back(orphans.front().frame);
  std::vector<uint64_t> wanted = waiting;
  if (doubles_) wanted.insert(wanted.end(), doubles_->begin(), doubles_->end());
  if (wanted.empty()) co_return;
  co_await SortUniqueInSteps(wanted);
  std::vector<RecordedPage> found;
  co_await FindRecorded(records, wanted, pages_, found);
  std::unordered_map<uint64_t, uint64_t> moved_holders;
  co_await CountHolders(found, moved_holders);
  Pace pace;
  for (size_t begin = 0; begin < found.size();) {
    const uint64_t frame = found[begin].frame;
    const auto moved = moved_holders.find(frame);
    uint64_t holders = moved == moved_holders.end() ? 0 : moved->second;
    size_t end = begin;
    for (; end < found.size() && found[end].frame == frame; ++end) holders += found[end].holders;
    const bool is_double = end - begin > 1 || moved != moved_holders.end();
    // Fewer mappings than holders: the frame was one page's and then another's, while the family was read.
    const bool is_one_page = all_read && facts.MapCount(frame).value_or(holders) >= holders;
    if (Contains(waiting, frame) || (is_double && is_one_page)) {
      taken.insert(taken.end(), found.begin() + static_cast<std::ptrdiff_t>(begin),
                   found.begin() + static_cast<std::ptrdiff_t>(end));
    } else if (is_double) {
      doubles_left = true;
    }
    if (pace.IsDue(16 * (end - begin))) co_await Rest();
    begin = end;
  }
}

// Their partners may share the frame at an address of their own.
Steps MovedPages::MatchRecords(std::span<const OrphanRun> unmatched, bool all_read, const FrameFacts& facts,
                               WindowRecords& records, Judgement& judgement, MovedSharing& sharing) {
  bool doubles_left = false;
  std::vector<RecordedPage> taken;
  co_await FindTaken(unmatched, all_read, facts, records, taken, doubles_left);
  if (doubles_) new_groups_ = doubles_left;
  doubles_.reset();
  sharing.must_read_all = doubles_left && !all_read;
  std::vector<uint64_t> frames;
  co_await TakeRecorded(taken, records, sharing, frames);
  Pace pace;
  for (const OrphanRun& orphans : unmatched) {
    const OrphanPage& first = orphans.front();
    if (orphans.size() > 1 || Contains(frames, first.frame)) {
      AddToGroup(orphans);
    } else if (facts.IsCountedAsFolio(first.frame)) {
      // Only the folio is known to be shared. No relative has this page of it.
      AddUnshared(orphans, judgement);
    } else {
      ++sharing.unmatched_pages;
      // Its partner has left the address, and may have moved to one that was not read.
      if (first.was_shared && !all_read) sharing.must_read_all = true;
    }
    if (pace.IsDue(16 * orphans.size())) co_await Rest();
  }
}

Steps MovedPages::CountHolders(std::span<const RecordedPage> pages,
                               std::unordered_map<uint64_t, uint64_t>& holders) const {
  std::vector<uint64_t> frames;  // sorted, as the pages are
  for (const RecordedPage& each : pages) {
    if (Contains(frames_, each.frame) && (frames.empty() || frames.back() != each.frame)) frames.push_back(each.frame);
  }
  if (frames.empty()) co_return;
  Pace pace;
  for (const auto& [window, blocks] : windows_) {
    for (const MovedBlock& block : blocks) {
      for (size_t page = 0; page < block.pages(); ++page) {
        const uint64_t here = block.CountHere(page);
        if (here != 0 && Contains(frames, block.FrameAt(page))) holders[block.FrameAt(page)] += here;
        if (pace.IsDue(8 + block.holders())) co_await Rest();
      }
    }
  }
}

Steps MovedPages::TakeRecorded(std::vector<RecordedPage>& taken, WindowRecords& records, MovedSharing& sharing,
                               std::vector<uint64_t>& frames) {
  co_await SortInSteps(std::span(taken), InOrderOfPages());
  Pace pace;
  for (size_t begin = 0; begin < taken.size();) {
    const uint64_t window = taken[begin].page / pages_;
    size_t end = begin;
    while (end < taken.size() && taken[end].page / pages_ == window) ++end;
    TakeFromWindow({taken.data() + begin, end - begin}, records, sharing, frames);
    if (pace.IsDue(pages_ + 64 * (end - begin))) co_await Rest();
    begin = end;
  }
  co_await SortUniqueInSteps(frames);
}

// Of one window.
void MovedPages::TakeFromWindow(std::span<const RecordedPage> taken, WindowRecords& records, MovedSharing& sharing,
                                std::vector<uint64_t>& frames) {
  const uint64_t window = taken.front().page / pages_;
  WindowRecord record = records.Find(window)->Open();
  std::vector<MovedPage> pages;
  for (const auto& [frame, page, count] : taken) {
    const auto in_window = static_cast<uint32_t>(page % pages_);
    std::vector<Slot> holders;
    if (!record.frames.empty() && record.frames[in_window] == frame) {
      holders = record.TakePage(in_window);
    } else {
      const auto extra = std::find_if(record.extras.begin(), record.extras.end(), [&, frame = frame](const auto& each) {
        return each.page == in_window && each.frame == frame;
      });
      if (extra == record.extras.end()) continue;
      holders = std::move(extra->holders);
      record.extras.erase(extra);
    }
    for (const Slot slot : holders) pages.push_back({page, frame, slot, true});
    // They were described as shared in their window.
    sharing.shared_pages -= static_cast<int64_t>(holders.size());
    sharing.exposure_pages -= static_cast<int64_t>(holders.size()) - 1;
    frames.push_back(frame);
  }
  records.Put(window, record);
  AddToWindow(window, std::move(pages));
}

void MovedPages::AddToGroup(OrphanRun orphans) {
  for (const OrphanPage& orphan : orphans) added_.push_back({orphan.page, orphan.frame, orphan.slot, true});
}

void MovedPages::AddToWindow(uint64_t window, std::vector<MovedPage> pages) {
  std::vector<MovedBlock>& blocks = windows_[window];
  for (const MovedBlock& block : blocks) block.AddPages(pages);
  if (pages.empty()) {
    windows_.erase(window);
  } else {
    blocks = PackMovedPages(std::move(pages));
  }
}

Steps MovedPages::PackAdded() {
  co_await SortInSteps(std::span(added_), InOrderOfPages());
  Pace pace;
  for (size_t begin = 0; begin < added_.size();) {
    const uint64_t window = added_[begin].page / pages_;
    size_t end = begin;
    while (end < added_.size() && added_[end].page / pages_ == window) ++end;
    AddToWindow(window, {added_.begin() + static_cast<std::ptrdiff_t>(begin),
                         added_.begin() + static_cast<std::ptrdiff_t>(end)});
    if (pace.IsDue(32 * (end - begin))) co_await Rest();
    begin = end;
  }
  Release(added_);
}

// Packs blocks that lost most of their pages anew, so that they give memory back.
Steps MovedPages::PackSparse() {
  Pace pace;
  std::vector<uint64_t> sparse;
  for (const auto& [window, blocks] : windows_) {
    if (std::any_of(blocks.begin(), blocks.end(), [](const MovedBlock& block) { return block.IsSparse(); }))
      sparse.push_back(window);
    if (pace.IsDue(pages_)) co_await Rest();
  }
  for (const uint64_t window : sparse) {
    AddToWindow(window, {});
    if (pace.IsDue(32 * pages_)) co_await Rest();
  }
}

Steps MovedPages::Count(MovedSharing& sharing) {
  shared_by_slot_.clear();
  const std::vector<MovedBlock*> blocks = Blocks();
  std::vector<Place> places;
  co_await FindPlaces(blocks, places);
  Pace pace;
  for (size_t begin = 0; begin < places.size();) {
    size_t end = begin;
    int64_t here = 0;
    for (; end < places.size() && places[end].frame == places[begin].frame; ++end) {
      here += static_cast<int64_t>(blocks[places[end].block]->CountHere(places[end].page));
    }
    if (here > 1) {
      sharing.shared_pages += here;
      sharing.exposure_pages += here - 1;
    }
    for (size_t i = begin; i < end && here > 1; ++i) {
      const MovedBlock& block = *blocks[places[i].block];
      for (size_t holder = 0; holder < block.holders(); ++holder) {
        if (!block.IsHere(holder, places[i].page)) continue;
        const Slot slot = block.SlotOf(holder);
        if (slot >= shared_by_slot_.size()) shared_by_slot_.resize(slot + size_t{1});
        ++shared_by_slot_[slot];
      }
      if (pace.IsDue(4 * (1 + block.holders()))) co_await Rest();
    }
    begin = end;
  }
}

void MovedPages::BookMoved() {
  // A node of the tree has four pointers.
  constexpr uint64_t kWindowBytes = 4 * sizeof(void*) + sizeof(uint64_t) + sizeof(std::vector<MovedBlock>);
  uint64_t bytes = 0;
  for (const auto& [window, blocks] : windows_) {
    bytes += kWindowBytes + (blocks.capacity() - blocks.size()) * sizeof(MovedBlock);
    for (const MovedBlock& block : blocks) bytes += block.MemoryBytes();
  }
  moved_charge_.Set(bytes);
}

uint64_t MovedPages::PendingBytes() const {
  return orphans_.capacity() * sizeof(OrphanPage) + breaks_or_moves_.capacity() * sizeof(BreakOrMove) +
         heirs_.capacity() * sizeof(Slot);
}

void MovedPages::BookPending() { pending_charge_.Set(PendingBytes()); }

}  // namespace cow::memory
