#include "collectors/memory/ledger/moved_pages.h"

#include <algorithm>
#include <utility>

#include "collectors/base/sort_unique.h"
#include "collectors/memory/ledger/recorded_frames.h"

namespace cow::memory {
namespace {

// One pass may note this many bytes of unmatched pages, even if the budget is exhausted.
constexpr uint64_t kPendingFloorBytes = uint64_t{2} << 20;

}  // namespace

MovedPages::MovedPages(size_t pages_per_window, Pfn zero_frame, LedgerBudget* budget)
    : pages_(pages_per_window),
      zero_frame_(zero_frame),
      budget_(budget),
      blocks_(pages_per_window),
      moved_charge_(budget, MemoryPurpose::kMoved),
      pending_charge_(budget, MemoryPurpose::kPending) {}

void MovedPages::Clear() {
  blocks_.Clear();
  shared_by_slot_ = {};
  has_unmatched_ = false;
  stands_ = {};
  notes_ = {};
  new_groups_ = false;
  doubles_.reset();
  moved_charge_.Set(0);
  pending_charge_.Set(0);
}

void MovedPages::BeginPass(std::span<const MemberIndex> standing_for) {
  notes_ = {};
  BookPending();
  doubles_.reset();
  stands_ = MemberSet(standing_for);
  for (MovedBlock* block : blocks_.All()) {
    block->ForgetChanges();
    for (size_t holder = 0; holder < block->holders(); ++holder)
      block->Expect(holder, stands_.Has(block->SlotOf(holder)));
  }
}

void MovedPages::MarkHeld(WindowIndex window, MemberIndex slot, BitmapSpan bitmap) const {
  for (const MovedBlock& block : blocks_.In(window)) {
    const size_t holder = block.FindHolder(slot);
    if (holder == block.holders()) continue;
    block.Held(holder).ForEach([&](size_t page) { bitmap.Set((block.first() + page).InWindow(pages_)); });
  }
}

std::vector<MovedPage> MovedPages::In(WindowIndex window) const {
  std::vector<MovedPage> pages;
  for (const MovedBlock& block : blocks_.In(window)) block.AddPages(pages);
  return pages;
}

void MovedPages::Note(WindowIndex window, std::span<const Reading> readings) {
  const std::span<MovedBlock> blocks = blocks_.In(window);
  if (blocks.empty()) return;
  const ReadingIndex index(readings);
  for (const Reading& reading : readings) {
    if (reading.remapped) notes_.remapped.Add(reading.slot);
  }
  for (MovedBlock& block : blocks) {
    for (size_t holder = 0; holder < block.holders(); ++holder) {
      const uint32_t r = index.Find(block.SlotOf(holder));
      if (r == kNoReading) continue;
      block.Held(holder).ForEach([&](size_t page) {
        const size_t in_window = (block.first() + page).InWindow(pages_);
        if (readings[r].IsRead(in_window)) block.Note(holder, page, readings[r].entries[in_window], zero_frame_);
      });
    }
  }
}

void MovedPages::AddUnmatched(const UnmatchedPage& page) {
  if (notes_.unmatched.size() == notes_.unmatched.capacity()) {
    constexpr size_t kFirst = 64;
    const size_t next = std::max(kFirst, notes_.unmatched.size() + notes_.unmatched.size() / 2);
    const uint64_t more = (next - notes_.unmatched.size()) * sizeof(UnmatchedPage);
    if (budget_ != nullptr && next * sizeof(UnmatchedPage) > kPendingFloorBytes && more > budget_->LeftBytes()) {
      ++notes_.dropped_unmatched;
      return;
    }
    notes_.unmatched.reserve(next);
    BookPending();
  }
  notes_.unmatched.push_back(page);
}

void MovedPages::AddBreakOrMove(Pfn frame, PageNumber page, MemberIndex slot, std::span<const MemberIndex> holders) {
  const auto begin = static_cast<uint32_t>(notes_.holders.size());
  notes_.holders.insert(notes_.holders.end(), holders.begin(), holders.end());
  notes_.breaks_or_moves.push_back({frame, page, slot, begin, static_cast<uint32_t>(notes_.holders.size())});
  BookPending();
}

Steps MovedPages::FindDoubts(std::vector<MovedPage>& doubts) {
  Pace pace;
  const std::vector<MovedBlock*> blocks = blocks_.All();
  std::vector<Pfn> lost;  // frames that a member no longer maps at their place
  for (MovedBlock* block : blocks) {
    block->SortChanges();
    for (const MovedBlock::Change& change : block->changes()) lost.push_back(block->FrameAt(change.page));
    if (pace.IsDue(1 + 8 * block->changes().size())) co_await Rest();
  }
  if (lost.empty()) co_return;
  co_await SortUniqueInSteps(lost);
  std::vector<Pfn> seen;  // lost frames that a member was read to have
  for (const MovedBlock* block : blocks) {
    for (size_t page = 0; page < block->pages(); ++page) {
      if (pace.IsDue(1 + block->holders())) co_await Rest();
      if (!Contains(lost, block->FrameAt(page))) continue;
      for (size_t holder = 0; holder < block->holders(); ++holder) {
        if (!block->IsHere(holder, page)) continue;
        const MemberIndex slot = block->SlotOf(holder);
        if (stands_.Has(slot)) {
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

void MovedPages::Confirm(const MovedPage& page, PageEntry entry) {
  for (MovedBlock& block : blocks_.In(page.page.Window(pages_))) {
    if (page.page < block.first() || page.page >= block.first() + block.pages()) continue;
    const size_t in_block = page.page - block.first();
    const size_t holder = block.FindHolder(page.slot);
    if (holder == block.holders() || !block.Holds(holder, in_block)) continue;
    if (block.FrameAt(in_block) == page.frame) block.Note(holder, in_block, entry, zero_frame_);
  }
}

Steps MovedPages::FindFrames(bool all, const WindowRecords& records, std::vector<Pfn>& frames) {
  Pace pace;
  if (new_groups_) {
    std::vector<Pfn> doubles;
    FrameFilter filter((blocks_.windows().size() + records.all().size()) * pages_);
    for (const auto& [window, blocks] : blocks_.windows()) {
      for (const MovedBlock& block : blocks) {
        for (size_t page = 0; page < block.pages(); ++page) {
          if (block.CountHolders(page) != 0) filter.Add(block.FrameAt(page));
        }
        if (pace.IsDue(block.pages() * (1 + block.holders()))) co_await Rest();
      }
    }
    co_await FindDoubles(records, pages_, filter, doubles);
    frames = doubles;
    doubles_ = std::move(doubles);
  }
  for (const UnmatchedPage& page : notes_.unmatched) frames.push_back(page.frame);
  for (const auto& [window, blocks] : blocks_.windows()) {
    for (const MovedBlock& block : blocks) {
      for (size_t page = 0; page < block.pages(); ++page) {
        const size_t holders = block.CountHolders(page);
        if (holders != 0 && (all || block.CountHere(page) != holders)) frames.push_back(block.FrameAt(page));
        if (pace.IsDue(1 + block.holders())) co_await Rest();
      }
      for (const MovedBlock::Change& change : block.changes()) {
        const Pfn frame = AnonFrame(change.entry, zero_frame_);
        if (frame != Pfn::None()) frames.push_back(frame);
      }
    }
  }
  co_await SortUniqueInSteps(frames);
}

void MovedPages::AddWindows(std::vector<WindowIndex>& windows) const {
  for (const auto& [window, blocks] : blocks_.windows()) windows.push_back(window);
}

void MovedPages::AddSharedPages(std::vector<uint64_t>& pages) const {
  if (pages.size() < shared_by_slot_.size()) pages.resize(shared_by_slot_.size());
  for (size_t slot = 0; slot < shared_by_slot_.size(); ++slot) pages[slot] += shared_by_slot_[slot];
}

Steps MovedPages::Finish(const FrameFacts& facts, std::vector<MemberIndex> departing, bool all_read,
                         WindowRecords& records, Judgement& judgement, MovedSharing& sharing) {
  sharing = MovedSharing();
  co_await SortInSteps(std::span(notes_.unmatched));
  const EndOfPass end{.pages_per_window = pages_,
                      .zero_frame = zero_frame_,
                      .notes = notes_,
                      .facts = facts,
                      .departing = departing,
                      .doubles = doubles_,
                      .all_read = all_read,
                      .records = records,
                      .blocks = blocks_,
                      .judgement = judgement,
                      .sharing = sharing};
  MovedOutcome outcome;
  co_await JudgeMoved(end, outcome);
  for (const UnmatchedPage& page : outcome.left_alone) AddUnmatched(page);
  co_await SortInSteps(std::span(notes_.unmatched));
  bool doubles_left = false;
  co_await MatchPages(end, outcome.frames, doubles_left);
  if (doubles_) new_groups_ = doubles_left;
  doubles_.reset();
  sharing.unmatched_pages += notes_.dropped_unmatched;
  has_unmatched_ = sharing.unmatched_pages != 0;
  co_await blocks_.PackSparse();
  co_await Count(sharing);
  notes_ = {};
  moved_charge_.Set(blocks_.MemoryBytes());
  BookPending();
}

Steps MovedPages::Count(MovedSharing& sharing) {
  shared_by_slot_.clear();
  const std::vector<MovedBlock*> blocks = blocks_.All();
  std::vector<MovedPlace> places;
  co_await MovedBlocks::FindPlaces(blocks, places);
  Pace pace;
  for (std::span<const MovedPlace> rest = places; !rest.empty();) {
    const auto of_frame = TakeRun(rest, [](const MovedPlace& place) { return place.frame; });
    int64_t here = 0;
    for (const MovedPlace& place : of_frame) here += static_cast<int64_t>(blocks[place.block]->CountHere(place.page));
    if (here < 2) continue;
    sharing.shared_pages += here;
    sharing.exposure_pages += here - 1;
    for (const MovedPlace& place : of_frame) {
      const MovedBlock& block = *blocks[place.block];
      for (size_t holder = 0; holder < block.holders(); ++holder) {
        if (!block.IsHere(holder, place.page)) continue;
        const MemberIndex slot = block.SlotOf(holder);
        if (slot.number() >= shared_by_slot_.size()) shared_by_slot_.resize(slot.number() + 1);
        ++shared_by_slot_[slot.number()];
      }
      if (pace.IsDue(4 * (1 + block.holders()))) co_await Rest();
    }
  }
}

void MovedPages::BookPending() { pending_charge_.Set(notes_.MemoryBytes()); }

}  // namespace cow::memory
