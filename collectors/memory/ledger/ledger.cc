#include "collectors/memory/ledger/ledger.h"

#include <algorithm>
#include <bit>

#include "collectors/base/sort_unique.h"
#include "collectors/memory/ledger/page_judge.h"

namespace cow::memory {
namespace {

// True if `after` records a frame at a page that had another one or none. `frames`, `extras`: the record before.
bool HasNewFrames(std::span<const Pfn> frames, std::span<const WindowRecord::Extra> extras, const WindowRecord& after) {
  for (size_t page = 0; page < after.frames.size(); ++page) {
    if (after.frames[page] != Pfn::None() && after.frames[page] != frames[page]) return true;
  }
  return std::any_of(after.extras.begin(), after.extras.end(), [extras](const WindowRecord::Extra& extra) {
    return std::none_of(extras.begin(), extras.end(), [&extra](const WindowRecord::Extra& known) {
      return known.page == extra.page && known.frame == extra.frame;
    });
  });
}

}  // namespace

Ledger::Ledger(size_t pages_per_window, Pfn zero_frame, LedgerBudget* budget)
    : pages_(pages_per_window),
      words_(BitmapWords(pages_per_window)),
      zero_frame_(zero_frame),
      records_(pages_per_window, budget),
      moved_(pages_per_window, zero_frame, budget) {}

void Ledger::BeginPass(std::span<const MemberIndex> standing_for) { moved_.BeginPass(standing_for); }

void Ledger::Depart(MemberIndex slot) {
  if (!IsDeparting(slot)) departing_.push_back(slot);
}

void Ledger::Clear() {
  records_.Clear();
  moved_.Clear();
  departing_.clear();
}

bool Ledger::IsDeparting(MemberIndex slot) const {
  return std::find(departing_.begin(), departing_.end(), slot) != departing_.end();
}

std::vector<WindowIndex> Ledger::Windows() const {
  std::vector<WindowIndex> windows;
  windows.reserve(records_.all().size());
  for (const auto& [window, record] : records_.all()) windows.push_back(window);
  moved_.AddWindows(windows);
  SortUnique(windows);
  return windows;
}

void Ledger::Recall(WindowIndex window, MemberIndex slot, std::span<PageEntry> entries) const {
  std::fill(entries.begin(), entries.end(), PageEntry());
  const PackedWindow* record = records_.Find(window);
  if (record == nullptr || !record->has_frames()) return;
  WindowBitmap recorded(pages_);
  record->CopyRecorded(recorded);
  const BitmapView held = record->Held(slot, recorded);
  if (!held.empty()) {
    record->CopyFramesAsEntries(entries);
    for (size_t page = 0; page < pages_; ++page) {
      const uint64_t all_if_held = uint64_t{0} - (held.Test(page) ? 1U : 0U);
      entries[page] = PageEntry((entries[page].bits() | procfs::kPagemapPresent) & all_if_held);
    }
  }
  for (const WindowRecord::Extra& extra : record->extras()) {
    if (extra.IsHeldBy(slot)) entries[extra.page] = PageEntry(procfs::kPagemapPresent | extra.frame.number());
  }
}

bool Ledger::RecallsAlike(WindowIndex window, MemberIndex a, MemberIndex b) const {
  const PackedWindow* record = records_.Find(window);
  if (record == nullptr || !record->has_frames()) return true;
  return record->extras().empty() && record->HoldAlike(a, b);
}

bool Ledger::MustCompare(WindowIndex window) const {
  if (moved_.Has(window)) return true;
  const PackedWindow* record = records_.Find(window);
  return record != nullptr &&
         (!record->away().empty() || std::any_of(departing_.begin(), departing_.end(),
                                                 [record](MemberIndex slot) { return record->Concerns(slot); }));
}

void Ledger::Compare(WindowIndex window, std::span<const Reading> readings, const Circumstances& circumstances,
                     Comparison& comparison) const {
  CompareWindow({.pages = pages_,
                 .window = window,
                 .readings = readings,
                 .record = records_.Find(window),
                 .moved = moved_,
                 .departing = departing_,
                 .zero_frame = zero_frame_},
                circumstances, comparison);
  UpdateDoubts(window, readings, comparison);
}

void Ledger::UpdateDoubts(WindowIndex window, std::span<const Reading> readings, Comparison& comparison) const {
  FindDoubts(records_.Find(window), readings, pages_, comparison);
}

void Ledger::Commit(WindowIndex window, std::span<const Reading> readings, const FrameFacts& facts,
                    const Comparison& comparison, Judgement& judgement, WindowSharing& sharing) {
  moved_.Note(window, readings);
  WindowBitmap attention = comparison.attention;
  comparison.unchanged.ForEach([&](size_t page) {
    // KSM makes the first of the pages that it merges its own in place: the frame does not change.
    if (facts.IsKsm(comparison.candidates[page])) attention.Set(page);
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

void Ledger::UpdateRecord(WindowIndex window, std::span<const Reading> readings, const FrameFacts& facts,
                          const Comparison& comparison, BitmapView attention, Judgement& judgement) {
  const PackedWindow* known = records_.Find(window);
  WindowRecord record = known == nullptr ? WindowRecord(pages_) : known->Open();
  if (record.frames.empty()) {
    record.frames.assign(pages_, Pfn::None());
    comparison.grouped.ForEach([&](size_t page) { record.frames[page] = comparison.candidates[page]; });
  }
  WindowBitmap judged(pages_);
  WindowBitmap singly(pages_);
  for (size_t w = 0; w < words_; ++w) {
    judged.Word(w) = attention.Word(w) | comparison.unstable.Word(w);
    singly.Word(w) = attention.Word(w) & ~comparison.unstable.Word(w);
  }
  const std::vector<Pfn> frames_before = record.frames;
  CommitByBitmaps(record, readings, comparison, judged, window.FirstPage(pages_), judgement);
  if (singly.Any()) {
    const ComparedWindow compared{window.FirstPage(pages_), readings, departing_, comparison, facts};
    JudgePages(compared, singly, record, moved_, judgement);
  }
  const auto extras_before = known == nullptr ? std::span<const WindowRecord::Extra>() : known->extras();
  if (HasNewFrames(frames_before, extras_before, record)) moved_.NoteNewGroups();
  records_.Put(window, record);
}

// Removes the pages of departed members from the record, except the pages in `judged`. Returns the removed pages.
WindowBitmap Ledger::TakeDepartures(WindowRecord& record, BitmapView judged) const {
  WindowBitmap leaving(pages_);
  for (const MemberIndex slot : departing_) {
    if (slot >= record.SlotsEnd()) continue;
    const BitmapSpan held = record.Held(slot);
    for (size_t w = 0; w < words_; ++w) {
      leaving.Word(w) |= held.Word(w) & ~judged.Word(w);
      held.Word(w) &= judged.Word(w);
    }
  }
  return leaving;
}

// Commits the pages that need no judgement one by one: newly shared pages, and pages of departed members.
void Ledger::CommitByBitmaps(WindowRecord& record, std::span<const Reading> readings, const Comparison& comparison,
                             BitmapView judged, PageNumber first_page, Judgement& judgement) {
  const Comparison& e = comparison;
  const WindowBitmap leaving = TakeDepartures(record, judged);
  const bool any_leaves = leaving.Any();
  for (size_t w = 0; w < words_; ++w) {
    for (uint64_t rest = e.pairs.Word(w) & ~e.grouped.Word(w) & ~judged.Word(w); rest != 0; rest &= rest - 1) {
      const size_t page = w * 64 + static_cast<size_t>(std::countr_zero(rest));
      record.frames[page] = e.candidates[page];
    }
  }
  for (uint32_t r = 0; r < readings.size(); ++r) {
    const BitmapSpan held = record.Held(readings[r].slot);
    for (size_t w = 0; w < words_; ++w) {
      held.Word(w) |= e.members[r].current.Word(w) & (e.pairs.Word(w) | e.grouped.Word(w)) & ~judged.Word(w);
    }
    if (!any_leaves) continue;
    WindowBitmap alone(pages_);  // this holder is the last one
    for (size_t w = 0; w < words_; ++w) {
      alone.Word(w) = held.Word(w) & leaving.Word(w) & ~e.pairs.Word(w);
      held.Word(w) &= ~alone.Word(w);
    }
    const size_t pages = alone.Count();
    if (pages == 0) continue;
    size_t first = 0;
    while (!alone.Test(first)) ++first;
    judgement.AddUnshared(readings[r].slot, first_page + first, UnshareCause::kExit, pages);
  }
  for (size_t w = 0; w < words_; ++w) {
    for (uint64_t rest = leaving.Word(w) & ~e.pairs.Word(w); rest != 0; rest &= rest - 1) {
      record.frames[w * 64 + static_cast<size_t>(std::countr_zero(rest))] = Pfn::None();
    }
  }
}

void Ledger::Describe(const PackedWindow* record, std::span<const Reading> readings, const FrameFacts& facts,
                      const Comparison& comparison, BitmapView attention, WindowSharing& sharing) const {
  sharing.members.resize(readings.size());
  sharing.exposure_pages = 0;
  DescribeShared(record, readings, sharing);
  attention.ForEach([&](size_t page) {
    for (uint32_t r = 0; r < readings.size(); ++r) {
      const Pfn frame = comparison.members[r].frames[page];
      if (frame == Pfn::None() || !facts.IsKsm(frame)) continue;
      ++(facts.merged_known() ? sharing.members[r].ksm_pages : sharing.members[r].maybe_ksm_pages);
    }
  });
  sharing.unresolved_pages = 0;
  for (const WindowSharing::Member& member : sharing.members) sharing.unresolved_pages += member.maybe_ksm_pages;
  for (size_t r = 0; r < readings.size() && comparison.any_away; ++r) {
    for (size_t w = 0; w < words_; ++w) {
      const uint64_t unresolved = comparison.members[r].away.Word(w) & comparison.any_anon.Word(w);
      sharing.unresolved_pages += static_cast<uint64_t>(std::popcount(unresolved));
    }
  }
}

void Ledger::DescribeShared(const PackedWindow* record, std::span<const Reading> readings,
                            WindowSharing& sharing) const {
  WindowBitmap recorded(pages_);
  if (record != nullptr) record->CopyRecorded(recorded);
  const size_t recorded_pages = recorded.Count();
  WindowBitmap groups(pages_);
  for (uint32_t r = 0; r < readings.size(); ++r) {
    WindowSharing::Member& member = sharing.members[r];
    member.ksm_pages = 0;
    member.maybe_ksm_pages = 0;
    member.shared_pages = 0;
    const BitmapView held = record == nullptr ? BitmapView() : record->Held(readings[r].slot, recorded);
    if (held.empty()) {
      member.shared.Reset(pages_);
      continue;
    }
    member.shared.Assign(held);
    for (size_t w = 0; w < words_; ++w) groups.Word(w) |= held.Word(w);
    member.shared_pages = AreSameWords(held, recorded) ? recorded_pages : held.Count();
    sharing.exposure_pages += member.shared_pages;
  }
  sharing.exposure_pages -= groups.Count();
  if (record == nullptr || record->extras().empty()) return;
  const ReadingIndex index(readings);
  for (const WindowRecord::Extra& extra : record->extras()) {
    for (const MemberIndex slot : extra.holders) {
      const uint32_t reading = index.Find(slot);
      if (reading == kNoReading) continue;
      WindowSharing::Member& member = sharing.members[reading];
      if (!member.shared.Test(extra.page)) ++member.shared_pages;
      member.shared.Set(extra.page);
    }
    sharing.exposure_pages += extra.holders.size() - 1;
  }
}

void Ledger::DescribeDeparture(WindowIndex window, std::span<const MemberIndex> gone,
                               std::span<const MemberIndex> remaining, DepartedSharing& sharing) const {
  sharing.shared.assign(gone.size(), WindowBitmap(pages_));
  sharing.exposure_pages = 0;
  sharing.alone_pages = 0;
  const PackedWindow* record = records_.Find(window);
  if (record == nullptr) return;
  WindowBitmap recorded(pages_);
  record->CopyRecorded(recorded);
  // Pages with at least one holder, and with at least two: first among the remaining members, then among all.
  WindowBitmap one(pages_);
  WindowBitmap two(pages_);
  uint64_t held_pages = 0;
  const auto add = [&](MemberIndex slot) {
    const BitmapView held = record->Held(slot, recorded);
    for (size_t w = 0; w < held.words().size(); ++w) {
      two.Word(w) |= one.Word(w) & held.Word(w);
      one.Word(w) |= held.Word(w);
    }
    held_pages += held.Count();
    return held;
  };
  for (const MemberIndex slot : remaining) add(slot);
  const WindowBitmap one_remains = one;
  const WindowBitmap two_remain = two;
  const uint64_t exposure_after = held_pages - one.Count();
  for (size_t i = 0; i < gone.size(); ++i) {
    const BitmapView held = add(gone[i]);
    if (!held.empty()) sharing.shared[i].Assign(held);
  }
  sharing.exposure_pages = held_pages - one.Count() - exposure_after;
  for (size_t w = 0; w < words_; ++w) {
    sharing.alone_pages +=
        static_cast<uint64_t>(std::popcount(two.Word(w) & one_remains.Word(w) & ~two_remain.Word(w)));
  }
  for (const WindowRecord::Extra& extra : record->extras()) {
    const auto holds = [&extra](MemberIndex slot) { return extra.IsHeldBy(slot); };
    const auto after = static_cast<uint64_t>(std::count_if(remaining.begin(), remaining.end(), holds));
    uint64_t before = after;
    for (size_t i = 0; i < gone.size(); ++i) {
      if (!holds(gone[i])) continue;
      ++before;
      sharing.shared[i].Set(extra.page);
    }
    if (before == after || before < 2) continue;
    sharing.exposure_pages += before - std::max<uint64_t>(after, 1);
    if (after == 1) ++sharing.alone_pages;
  }
}

Steps Ledger::FinishPass(const FrameFacts& facts, Judgement& judgement, MovedSharing& moved, bool all_read) {
  const std::vector<MemberIndex> departed = departing_;
  co_await moved_.Finish(facts, departed, all_read, records_, judgement, moved);
  // A slot stays taken if a record still names it, as for a page that kept changing under the reads.
  std::vector<MemberIndex> free_slots = departed;
  Pace pace;
  for (const auto& [window, record] : records_.all()) {
    if (free_slots.empty()) break;
    std::erase_if(free_slots, [&record = record](MemberIndex slot) { return record.Concerns(slot); });
    if (pace.IsDue(8 * (1 + free_slots.size()))) co_await Rest();
  }
  std::sort(free_slots.begin(), free_slots.end());
  std::erase_if(departing_, [&free_slots](MemberIndex slot) {
    return std::binary_search(free_slots.begin(), free_slots.end(), slot);
  });
}

void Ledger::AddSharedPages(std::vector<uint64_t>& pages) const {
  WindowBitmap recorded(pages_);
  const auto add = [&pages](MemberIndex slot, uint64_t count) {
    if (slot.number() >= pages.size()) pages.resize(slot.number() + 1);
    pages[slot.number()] += count;
  };
  for (const auto& [window, record] : records_.all()) {
    record.CopyRecorded(recorded);
    for (MemberIndex slot; slot < record.SlotsEnd(); ++slot) add(slot, record.Held(slot, recorded).Count());
    for (const WindowRecord::Extra& extra : record.extras()) {
      for (const MemberIndex slot : extra.holders) add(slot, 1);
    }
  }
  moved_.AddSharedPages(pages);
}

}  // namespace cow::memory
