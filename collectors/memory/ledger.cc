#include "collectors/memory/ledger.h"

#include <algorithm>

#include "collectors/memory/page_judge.h"

namespace cow::memory {

Ledger::Ledger(size_t pages_per_window, uint64_t zero_frame, LedgerBudget* budget)
    : pages_(pages_per_window),
      words_((pages_per_window + 63) / 64),
      zero_frame_(zero_frame),
      budget_(budget),
      moved_(pages_per_window, zero_frame) {}

Ledger::~Ledger() {
  for (const auto& [window, record] : windows_) Uncharge(record);
}

void Ledger::BeginPass() { moved_.BeginPass(); }

void Ledger::Depart(Slot slot) {
  if (!IsDeparting(slot)) departing_.push_back(slot);
}

bool Ledger::IsDeparting(Slot slot) const {
  return std::find(departing_.begin(), departing_.end(), slot) != departing_.end();
}

std::vector<uint64_t> Ledger::Windows() const {
  std::vector<uint64_t> windows;
  windows.reserve(windows_.size());
  for (const auto& [window, record] : windows_) windows.push_back(window);
  moved_.AddWindows(windows);
  std::sort(windows.begin(), windows.end());
  windows.erase(std::unique(windows.begin(), windows.end()), windows.end());
  return windows;
}

void Ledger::Charge(WindowRecord& record) {
  const uint64_t bytes = record.MemoryBytes();
  if (budget_ != nullptr) budget_->used_bytes += bytes - record.bytes;
  record.bytes = bytes;
}

void Ledger::Uncharge(const WindowRecord& record) {
  if (budget_ != nullptr) budget_->used_bytes -= record.bytes;
}

void Ledger::Examine(uint64_t window, std::span<const Reading> readings, const Circumstances& circumstances,
                     Examination& examination) const {
  const auto found = windows_.find(window);
  const WindowRecord* record = found == windows_.end() ? nullptr : &found->second;
  WindowExaminer(pages_, readings, record, moved_.In(window), departing_, examination)
      .Examine(circumstances, zero_frame_);
}

void Ledger::Settle(uint64_t window, std::span<const Reading> readings, const FrameFacts& facts,
                    const Examination& examination, Judgement& judgement, WindowSharing& sharing) {
  moved_.Note(window, readings);
  std::vector<uint64_t> attention = examination.attention;
  ForEachBit(examination.unchanged, [&](size_t page) {
    // KSM makes the first page of those that it merges its own, where it is: the frame does not change.
    if (facts.IsKsm(examination.candidates[page])) SetBit(attention, page);
  });
  if (!examination.quiet) SettleRecord(window, readings, facts, examination, attention, judgement);
  const auto found = windows_.find(window);
  Describe(found == windows_.end() ? nullptr : &found->second, readings, facts, examination, attention, sharing);
}

void Ledger::SettleRecord(uint64_t window, std::span<const Reading> readings, const FrameFacts& facts,
                          const Examination& examination, std::span<const uint64_t> attention, Judgement& judgement) {
  const auto found = windows_.try_emplace(window, pages_).first;
  WindowRecord& record = found->second;
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
    const ExaminedWindow examined{window * pages_, readings, departing_, examination, facts};
    PageJudge judge(examined, record, moved_, judgement);
    ForEachBit(singly, [&judge](size_t page) { judge.Judge(page); });
  }
  Charge(record);
  if (budget_ != nullptr && budget_->used_bytes > budget_->limit_bytes) {
    record.frames = std::vector<uint64_t>();
    Charge(record);
  }
  if (!record.HoldsAnything()) {
    Uncharge(record);
    windows_.erase(found);
  }
}

// Takes what ended members held from the record, but for pages that are judged singly. Returns those pages.
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

// Pages whose verdict the comparison of bitmaps gives: newly shared ones, and those that ended members held.
void Ledger::SettleBulk(WindowRecord& record, std::span<const Reading> readings, const Examination& examination,
                        std::span<const uint64_t> judged, uint64_t first_page, Judgement& judgement) {
  const Examination& e = examination;
  const std::vector<uint64_t> leaving = TakeDepartures(record, judged);
  for (size_t w = 0; w < words_; ++w) {
    for (uint64_t rest = e.pairs[w] & ~e.grouped[w] & ~judged[w]; rest != 0; rest &= rest - 1) {
      const size_t page = w * 64 + static_cast<size_t>(std::countr_zero(rest));
      record.frames[page] = e.candidates[page];
    }
  }
  for (uint32_t r = 0; r < readings.size(); ++r) {
    const std::span<uint64_t> held = record.Held(readings[r].slot);
    std::vector<uint64_t> alone(words_);  // pages that lost a member by its end and have this holder left
    for (size_t w = 0; w < words_; ++w) {
      held[w] |= e.members[r].current[w] & (e.pairs[w] | e.grouped[w]) & ~judged[w];
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

void Ledger::Describe(const WindowRecord* record, std::span<const Reading> readings, const FrameFacts& facts,
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
    const std::span<const uint64_t> held = record->Held(readings[r].slot);
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
  for (const WindowRecord::Extra& extra : record->extras) {
    for (const Slot slot : extra.holders) {
      const uint32_t reading = index.Find(slot);
      if (reading != kNoReading) SetBit(sharing.members[reading].shared, extra.page);
    }
    sharing.exposure_pages += extra.holders.size() - 1;
  }
}

std::vector<uint64_t> Ledger::OrphanFrames() const { return moved_.Frames(); }

void Ledger::FinishPass(const FrameFacts& facts, Judgement& judgement, MovedSharing& moved) {
  moved_.Finish(facts, departing_, windows_, judgement, moved);
  std::erase_if(windows_, [this](const auto& item) {
    const bool nothing = !item.second.HoldsAnything();
    if (nothing) Uncharge(item.second);
    return nothing;
  });
  // Members that ended are settled everywhere, unless a page kept changing under the reads.
  std::erase_if(departing_, [this](Slot slot) {
    return std::none_of(windows_.begin(), windows_.end(),
                        [slot](const auto& item) { return item.second.Concerns(slot); });
  });
}

size_t Ledger::MemoryBytes() const {
  size_t bytes = moved_.MemoryBytes();
  for (const auto& [window, record] : windows_) bytes += record.bytes;
  return bytes;
}

}  // namespace cow::memory
