#include "collectors/memory/ledger/ledger.h"

#include <algorithm>

#include "collectors/base/sort_unique.h"
#include "collectors/memory/ledger/doubts.h"
#include "collectors/memory/ledger/page_judge.h"

namespace cow::memory {
namespace {

// True if `after` records a frame at a page that had another one or none. `frames`, `extras`: the record before.
bool HasNewFrames(std::span<const uint64_t> frames, std::span<const WindowRecord::Extra> extras,
                  const WindowRecord& after) {
  for (size_t page = 0; page < after.frames.size(); ++page) {
    if (after.frames[page] != kNoFrame && after.frames[page] != frames[page]) return true;
  }
  return std::any_of(after.extras.begin(), after.extras.end(), [extras](const WindowRecord::Extra& extra) {
    return std::none_of(extras.begin(), extras.end(), [&extra](const WindowRecord::Extra& known) {
      return known.page == extra.page && known.frame == extra.frame;
    });
  });
}

}  // namespace

Ledger::Ledger(size_t pages_per_window, uint64_t zero_frame, LedgerBudget* budget)
    : pages_(pages_per_window),
      words_(BitmapWords(pages_per_window)),
      zero_frame_(zero_frame),
      records_(pages_per_window, budget),
      moved_(pages_per_window, zero_frame, budget) {}

void Ledger::BeginPass(std::span<const Slot> standing_for) { moved_.BeginPass(standing_for); }

void Ledger::Depart(Slot slot) {
  if (!IsDeparting(slot)) departing_.push_back(slot);
}

void Ledger::Clear() {
  records_.Clear();
  moved_.Clear();
  departing_.clear();
}

bool Ledger::IsDeparting(Slot slot) const {
  return std::find(departing_.begin(), departing_.end(), slot) != departing_.end();
}

std::vector<uint64_t> Ledger::Windows() const {
  std::vector<uint64_t> windows;
  windows.reserve(records_.all().size());
  for (const auto& [window, record] : records_.all()) windows.push_back(window);
  moved_.AddWindows(windows);
  SortUnique(windows);
  return windows;
}

void Ledger::Recall(uint64_t window, Slot slot, std::span<PageEntry> entries) const {
  std::fill(entries.begin(), entries.end(), PageEntry());
  const PackedWindow* record = records_.Find(window);
  if (record == nullptr || !record->has_frames()) return;
  std::vector<uint64_t> recorded(words_);
  record->CopyRecorded(recorded);
  const std::span<const uint64_t> held = record->Held(slot, recorded);
  if (!held.empty()) {
    record->CopyFramesAsEntries(entries);
    for (size_t page = 0; page < pages_; ++page) {
      const uint64_t all_if_held = uint64_t{0} - ((held[page / 64] >> (page % 64)) & 1);
      entries[page] = PageEntry((entries[page].bits() | procfs::kPagemapPresent) & all_if_held);
    }
  }
  for (const WindowRecord::Extra& extra : record->extras()) {
    if (extra.IsHeldBy(slot)) entries[extra.page] = PageEntry(procfs::kPagemapPresent | extra.frame);
  }
}

bool Ledger::RecallsAlike(uint64_t window, Slot a, Slot b) const {
  const PackedWindow* record = records_.Find(window);
  if (record == nullptr || !record->has_frames()) return true;
  return record->extras().empty() && record->HoldAlike(a, b);
}

bool Ledger::MustCompare(uint64_t window) const {
  if (moved_.Has(window)) return true;
  const PackedWindow* record = records_.Find(window);
  return record != nullptr &&
         (!record->away().empty() ||
          std::any_of(departing_.begin(), departing_.end(), [record](Slot slot) { return record->Concerns(slot); }));
}

void Ledger::Compare(uint64_t window, std::span<const Reading> readings, const Circumstances& circumstances,
                     Comparison& comparison) const {
  WindowComparer(pages_, readings, records_.Find(window), moved_, window, departing_, comparison)
      .Compare(circumstances, zero_frame_);
  UpdateDoubts(window, readings, comparison);
}

void Ledger::UpdateDoubts(uint64_t window, std::span<const Reading> readings, Comparison& comparison) const {
  FindDoubts(records_.Find(window), readings, pages_, comparison);
}

void Ledger::Commit(uint64_t window, std::span<const Reading> readings, const FrameFacts& facts,
                    const Comparison& comparison, Judgement& judgement, WindowSharing& sharing) {
  moved_.Note(window, readings);
  std::vector<uint64_t> attention = comparison.attention;
  ForEachBit(comparison.unchanged, [&](size_t page) {
    // KSM makes the first of the pages that it merges its own in place: the frame does not change.
    if (facts.IsKsm(comparison.candidates[page])) SetBit(attention, page);
  });
  const size_t first_unmatched = moved_.unmatched().size();
  if (!comparison.quiet) UpdateRecord(window, readings, facts, comparison, attention, judgement);
  Describe(records_.Find(window), readings, facts, comparison, attention, sharing);
  const std::span<const UnmatchedPage> added = moved_.unmatched().subspan(first_unmatched);
  for (size_t r = 0; r < readings.size(); ++r) {
    sharing.members[r].has_unmatched = std::any_of(
        added.begin(), added.end(), [&](const UnmatchedPage& page) { return page.slot == readings[r].slot; });
  }
}

void Ledger::UpdateRecord(uint64_t window, std::span<const Reading> readings, const FrameFacts& facts,
                          const Comparison& comparison, std::span<const uint64_t> attention, Judgement& judgement) {
  const PackedWindow* known = records_.Find(window);
  WindowRecord record = known == nullptr ? WindowRecord(pages_) : known->Open();
  if (record.frames.empty()) {
    record.frames.assign(pages_, kNoFrame);
    ForEachBit(comparison.grouped, [&](size_t page) { record.frames[page] = comparison.candidates[page]; });
  }
  std::vector<uint64_t> judged(words_);
  std::vector<uint64_t> singly(words_);
  for (size_t w = 0; w < words_; ++w) {
    judged[w] = attention[w] | comparison.unstable[w];
    singly[w] = attention[w] & ~comparison.unstable[w];
  }
  const std::vector<uint64_t> frames_before = record.frames;
  CommitByBitmaps(record, readings, comparison, judged, window * pages_, judgement);
  if (AnyBit(singly)) {
    const ComparedWindow compared{window * pages_, readings, departing_, comparison, facts};
    PageJudge judge(compared, record, moved_, judgement);
    judge.JudgePages(singly);
  }
  const auto extras_before = known == nullptr ? std::span<const WindowRecord::Extra>() : known->extras();
  if (HasNewFrames(frames_before, extras_before, record)) moved_.NoteNewGroups();
  records_.Put(window, record);
}

// Removes the pages of departed members from the record, except the pages in `judged`. Returns the removed pages.
std::vector<uint64_t> Ledger::TakeDepartures(WindowRecord& record, std::span<const uint64_t> judged) const {
  std::vector<uint64_t> leaving(words_, 0);
  for (const Slot slot : departing_) {
    if (slot >= record.SlotsEnd()) continue;
    const std::span<uint64_t> held = record.Held(slot);
    for (size_t w = 0; w < words_; ++w) {
      leaving[w] |= held[w] & ~judged[w];
      held[w] &= judged[w];
    }
  }
  return leaving;
}

// Commits the pages that need no judgement one by one: newly shared pages, and pages of departed members.
void Ledger::CommitByBitmaps(WindowRecord& record, std::span<const Reading> readings, const Comparison& comparison,
                             std::span<const uint64_t> judged, uint64_t first_page, Judgement& judgement) {
  const Comparison& e = comparison;
  const std::vector<uint64_t> leaving = TakeDepartures(record, judged);
  const bool any_leaves = AnyBit(leaving);
  for (size_t w = 0; w < words_; ++w) {
    for (uint64_t rest = e.pairs[w] & ~e.grouped[w] & ~judged[w]; rest != 0; rest &= rest - 1) {
      const size_t page = w * 64 + static_cast<size_t>(std::countr_zero(rest));
      record.frames[page] = e.candidates[page];
    }
  }
  for (uint32_t r = 0; r < readings.size(); ++r) {
    const std::span<uint64_t> held = record.Held(readings[r].slot);
    for (size_t w = 0; w < words_; ++w) {
      held[w] |= e.members[r].current[w] & (e.pairs[w] | e.grouped[w]) & ~judged[w];
    }
    if (!any_leaves) continue;
    std::vector<uint64_t> alone(words_);  // this holder is the last one
    for (size_t w = 0; w < words_; ++w) {
      alone[w] = held[w] & leaving[w] & ~e.pairs[w];
      held[w] &= ~alone[w];
    }
    const size_t pages = CountBits(alone);
    if (pages == 0) continue;
    size_t first = 0;
    while (!TestBit(alone, first)) ++first;
    judgement.AddUnshared(readings[r].slot, first_page + first, UnshareCause::kExit, pages);
  }
  for (size_t w = 0; w < words_; ++w) {
    for (uint64_t rest = leaving[w] & ~e.pairs[w]; rest != 0; rest &= rest - 1) {
      record.frames[w * 64 + static_cast<size_t>(std::countr_zero(rest))] = kNoFrame;
    }
  }
}

void Ledger::Describe(const PackedWindow* record, std::span<const Reading> readings, const FrameFacts& facts,
                      const Comparison& comparison, std::span<const uint64_t> attention, WindowSharing& sharing) const {
  sharing.members.resize(readings.size());
  sharing.exposure_pages = 0;
  DescribeShared(record, readings, sharing);
  ForEachBit(attention, [&](size_t page) {
    for (uint32_t r = 0; r < readings.size(); ++r) {
      const uint64_t frame = comparison.members[r].frames[page];
      if (frame == kNoFrame || !facts.IsKsm(frame)) continue;
      ++(facts.merged_known() ? sharing.members[r].ksm_pages : sharing.members[r].maybe_ksm_pages);
    }
  });
  sharing.unresolved_pages = 0;
  for (const WindowSharing::Member& member : sharing.members) sharing.unresolved_pages += member.maybe_ksm_pages;
  for (size_t r = 0; r < readings.size() && comparison.any_away; ++r) {
    for (size_t w = 0; w < words_; ++w) {
      const uint64_t unresolved = comparison.members[r].away[w] & comparison.any_anon[w];
      sharing.unresolved_pages += static_cast<uint64_t>(std::popcount(unresolved));
    }
  }
}

void Ledger::DescribeShared(const PackedWindow* record, std::span<const Reading> readings,
                            WindowSharing& sharing) const {
  std::vector<uint64_t> recorded(words_);
  if (record != nullptr) record->CopyRecorded(recorded);
  const size_t recorded_pages = CountBits(recorded);
  std::vector<uint64_t> groups(words_);
  for (uint32_t r = 0; r < readings.size(); ++r) {
    WindowSharing::Member& member = sharing.members[r];
    member.ksm_pages = 0;
    member.maybe_ksm_pages = 0;
    member.shared_pages = 0;
    const std::span<const uint64_t> held =
        record == nullptr ? std::span<const uint64_t>() : record->Held(readings[r].slot, recorded);
    if (held.empty()) {
      member.shared.assign(words_, 0);
      continue;
    }
    member.shared.assign(held.begin(), held.end());
    for (size_t w = 0; w < words_; ++w) groups[w] |= held[w];
    member.shared_pages = held.data() == recorded.data() ? recorded_pages : CountBits(held);
    sharing.exposure_pages += member.shared_pages;
  }
  sharing.exposure_pages -= CountBits(groups);
  if (record == nullptr || record->extras().empty()) return;
  const ReadingIndex index(readings);
  for (const WindowRecord::Extra& extra : record->extras()) {
    for (const Slot slot : extra.holders) {
      const uint32_t reading = index.Find(slot);
      if (reading == kNoReading) continue;
      WindowSharing::Member& member = sharing.members[reading];
      if (!TestBit(member.shared, extra.page)) ++member.shared_pages;
      SetBit(member.shared, extra.page);
    }
    sharing.exposure_pages += extra.holders.size() - 1;
  }
}

void Ledger::DescribeDeparture(uint64_t window, std::span<const Slot> gone, std::span<const Slot> remaining,
                               DepartedSharing& sharing) const {
  sharing.shared.assign(gone.size(), std::vector<uint64_t>(words_, 0));
  sharing.exposure_pages = 0;
  sharing.alone_pages = 0;
  const PackedWindow* record = records_.Find(window);
  if (record == nullptr) return;
  std::vector<uint64_t> recorded(words_);
  record->CopyRecorded(recorded);
  // Pages with at least one holder, and with at least two: first among the remaining members, then among all.
  std::vector<uint64_t> one(words_, 0);
  std::vector<uint64_t> two(words_, 0);
  uint64_t held_pages = 0;
  const auto add = [&](Slot slot) {
    const std::span<const uint64_t> held = record->Held(slot, recorded);
    for (size_t w = 0; w < held.size(); ++w) {
      two[w] |= one[w] & held[w];
      one[w] |= held[w];
    }
    held_pages += CountBits(held);
    return held;
  };
  for (const Slot slot : remaining) add(slot);
  const std::vector<uint64_t> one_remains = one;
  const std::vector<uint64_t> two_remain = two;
  const uint64_t exposure_after = held_pages - CountBits(one);
  for (size_t i = 0; i < gone.size(); ++i) {
    const std::span<const uint64_t> held = add(gone[i]);
    std::copy(held.begin(), held.end(), sharing.shared[i].begin());
  }
  sharing.exposure_pages = held_pages - CountBits(one) - exposure_after;
  for (size_t w = 0; w < words_; ++w) {
    sharing.alone_pages += static_cast<uint64_t>(std::popcount(two[w] & one_remains[w] & ~two_remain[w]));
  }
  for (const WindowRecord::Extra& extra : record->extras()) {
    const auto holds = [&extra](Slot slot) { return extra.IsHeldBy(slot); };
    const auto after = static_cast<uint64_t>(std::count_if(remaining.begin(), remaining.end(), holds));
    uint64_t before = after;
    for (size_t i = 0; i < gone.size(); ++i) {
      if (!holds(gone[i])) continue;
      ++before;
      SetBit(sharing.shared[i], extra.page);
    }
    if (before == after || before < 2) continue;
    sharing.exposure_pages += before - std::max<uint64_t>(after, 1);
    if (after == 1) ++sharing.alone_pages;
  }
}

Steps Ledger::FinishPass(const FrameFacts& facts, Judgement& judgement, MovedSharing& moved, bool all_read) {
  const std::vector<Slot> departed = departing_;
  co_await moved_.Finish(facts, departed, all_read, records_, judgement, moved);
  // A slot stays taken if a record still names it, as for a page that kept changing under the reads.
  std::vector<Slot> free_slots = departed;
  Pace pace;
  for (const auto& [window, record] : records_.all()) {
    if (free_slots.empty()) break;
    std::erase_if(free_slots, [&record = record](Slot slot) { return record.Concerns(slot); });
    if (pace.IsDue(8 * (1 + free_slots.size()))) co_await Rest();
  }
  std::sort(free_slots.begin(), free_slots.end());
  std::erase_if(departing_,
                [&free_slots](Slot slot) { return std::binary_search(free_slots.begin(), free_slots.end(), slot); });
}

void Ledger::AddSharedPages(std::vector<uint64_t>& pages) const {
  std::vector<uint64_t> recorded(words_);
  const auto add = [&pages](Slot slot, uint64_t count) {
    if (slot >= pages.size()) pages.resize(slot + 1);
    pages[slot] += count;
  };
  for (const auto& [window, record] : records_.all()) {
    record.CopyRecorded(recorded);
    for (Slot slot = 0; slot < record.SlotsEnd(); ++slot) add(slot, CountBits(record.Held(slot, recorded)));
    for (const WindowRecord::Extra& extra : record.extras()) {
      for (const Slot slot : extra.holders) add(slot, 1);
    }
  }
  moved_.AddSharedPages(pages);
}

}  // namespace cow::memory
