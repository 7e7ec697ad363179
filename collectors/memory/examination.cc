#include "collectors/memory/examination.h"

#include <algorithm>
#include <cstring>

namespace cow::memory {
namespace {

// A member's own storage: a frame per page, then the bitmaps.
struct Storage {
  Storage(std::span<uint64_t> words, size_t pages, size_t bitmap_words)
      : frames(words.first(pages)),
        anon(words.subspan(pages, bitmap_words)),
        maybe_shared(words.subspan(pages + bitmap_words, bitmap_words)),
        away(words.subspan(pages + 2 * bitmap_words, bitmap_words)),
        current(words.subspan(pages + 3 * bitmap_words, bitmap_words)) {}

  static size_t Words(size_t pages, size_t bitmap_words) { return pages + 4 * bitmap_words; }

  std::span<uint64_t> frames;
  std::span<uint64_t> anon;
  std::span<uint64_t> maybe_shared;
  std::span<uint64_t> away;
  std::span<uint64_t> current;
};

// Leaves the markers out.
uint64_t AwayOf(std::span<const uint64_t> entries, uint64_t swapped) {
  for (uint64_t rest = swapped; rest != 0; rest &= rest - 1) {
    if (!IsAway(entries[static_cast<size_t>(std::countr_zero(rest))])) swapped &= ~(rest & (~rest + 1));
  }
  return swapped;
}

// Splits raw entries into frames and bitmaps. The bits of a word come in at its top, without a branch. Pages with a bit
// of `once_bits` are mapped once.
void Decode(std::span<const uint64_t> entries, uint64_t zero_frame, uint64_t once_bits, Storage& member) {
  constexpr uint64_t kTop = uint64_t{1} << 63;
  for (size_t w = 0; w < member.anon.size(); ++w) {
    const std::span<const uint64_t> of_word = entries.subspan(w * 64, std::min<size_t>(64, entries.size() - w * 64));
    const std::span<uint64_t> frames = member.frames.subspan(w * 64, of_word.size());
    uint64_t anon = 0;
    uint64_t once = 0;
    uint64_t swapped = 0;
    for (size_t b = 0; b < of_word.size(); ++b) {
      const uint64_t entry = of_word[b];
      frames[b] = AnonFrame(entry, zero_frame);
      anon = (anon >> 1) | (frames[b] == kNoFrame ? 0 : kTop);
      once = (once >> 1) | ((entry & once_bits) != 0 ? kTop : 0);
      swapped = (swapped >> 1) | (IsSwapEntry(entry) ? kTop : 0);
    }
    const size_t unused = 64 - of_word.size();
    member.anon[w] = anon >> unused;
    member.maybe_shared[w] = (anon & ~once) >> unused;
    member.away[w] = AwayOf(of_word, swapped >> unused);
  }
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

}  // namespace

WindowExaminer::WindowExaminer(size_t pages, std::span<const Reading> readings, const PackedWindow* record,
                               std::span<const MovedPage> moved, std::span<const Slot> departing,
                               Examination& examination)
    : pages_(pages),
      words_((pages + 63) / 64),
      readings_(readings),
      record_(record),
      moved_(moved),
      departing_(departing),
      e_(examination) {}

void WindowExaminer::Examine(const Circumstances& circumstances, uint64_t zero_frame) {
  ksm_in_use_ = circumstances.ksm_in_use;
  mapped_once_known_ = circumstances.mapped_once_known;
  e_.swapped_in = circumstances.swapped_in;
  Clear();
  for (uint32_t r = 0; r < readings_.size(); ++r) DecodeMember(r, zero_frame);
  RecallFrames();
  FindCandidates();
  FindHolders();
  for (uint32_t r = 0; r < readings_.size(); ++r) {
    FindChanges(r);
    if (IsUnseenChild(r)) CompareFirstLook(r);
    CompareHugePage(r);
  }
  if (record_ != nullptr) FindUnseenHolders();
  AskAboutUnchanged();
  if (!AnyBit(e_.attention)) return;
  e_.quiet = false;
  const SlotIndex index(readings_);
  ForEachBit(e_.attention, [&](size_t page) { AskAbout(page, index); });
}

void WindowExaminer::Clear() {
  e_.questions.clear();
  e_.witnesses.clear();
  for (std::vector<uint64_t>* bitmap :
       {&e_.attention, &e_.unstable, &e_.grouped, &e_.pairs, &e_.unchanged, &e_.several}) {
    bitmap->assign(words_, 0);
  }
  e_.quiet = true;
  e_.any_away = false;
  if (e_.members.size() < readings_.size()) e_.members.resize(readings_.size());
}

// A member before this one that reads the same: the first, or the one before, as members without the mapping follow
// each other.
uint32_t WindowExaminer::FindSame(uint32_t reading) const {
  if (reading == 0 || !moved_.empty()) return kNoReading;
  const uint64_t* entries = readings_[reading].entries;
  for (const uint32_t other : {uint32_t{0}, reading - 1}) {
    if (readings_[other].entries == entries ||
        std::memcmp(readings_[other].entries, entries, pages_ * sizeof(uint64_t)) == 0) {
      return RepeatsAnother(other) ? e_.members[other].same_as : other;
    }
  }
  return kNoReading;
}

void WindowExaminer::DecodeMember(uint32_t reading, uint64_t zero_frame) {
  Examination::Member& member = e_.members[reading];
  member.same_as = FindSame(reading);
  member.repeated = false;
  if (member.same_as != kNoReading) {
    Examination::Member& same = e_.members[member.same_as];
    same.repeated = true;
    member.frames = same.frames;
    member.anon = same.anon;
    member.maybe_shared = same.maybe_shared;
    member.away = same.away;
    member.current = same.current;
    return;
  }
  member.storage.resize(Storage::Words(pages_, words_));
  Storage storage(member.storage, pages_, words_);
  Decode({readings_[reading].entries, pages_}, zero_frame, mapped_once_known_ ? procfs::kPagemapMappedOnce : 0,
         storage);
  for (const MovedPage& moved : moved_) {
    if (moved.slot != readings_[reading].slot) continue;
    const size_t page = moved.page % pages_;
    storage.frames[page] = kNoFrame;
    ClearBit(storage.anon, page);
    ClearBit(storage.maybe_shared, page);
  }
  member.frames = storage.frames.data();
  member.anon = storage.anon;
  member.maybe_shared = storage.maybe_shared;
  member.away = storage.away;
  member.current = storage.current;
  e_.any_away = e_.any_away || AnyBit(member.away);
}

void WindowExaminer::RecallFrames() {
  e_.candidates.resize(pages_);
  if (record_ != nullptr && record_->has_frames()) {
    record_->CopyRecorded(e_.grouped);
    record_->CopyFrames(e_.candidates);
    return;
  }
  std::fill(e_.candidates.begin(), e_.candidates.end(), kNoFrame);
  if (record_ == nullptr) return;
  record_->CopyRecorded(e_.grouped);
  RecallDroppedFrames();
}

// The frame that two holders have in common is the one they share. Where there is none, no holder's is taken for it,
// and the verdict rests on the kernel's marks.
void WindowExaminer::RecallDroppedFrames() {
  std::vector<uint64_t>& frames = e_.candidates;
  ForEachBit(e_.grouped, [&frames](size_t page) { frames[page] = kForgottenFrame; });
  for (size_t i = 0; i < readings_.size(); ++i) {
    ForEachBit(Held(readings_[i].slot), [&](size_t page) {
      if (frames[page] != kForgottenFrame) return;
      const uint64_t frame = e_.members[i].frames[page];
      for (size_t j = i + 1; j < readings_.size() && frame != kNoFrame; ++j) {
        const std::span<const uint64_t> other = Held(readings_[j].slot);
        if (!other.empty() && TestBit(other, page) && e_.members[j].frames[page] == frame) frames[page] = frame;
      }
    });
  }
}

// Where no frame is recorded, the first member's that has one.
void WindowExaminer::FindCandidates() {
  e_.covered = e_.grouped;
  e_.anybody.assign(words_, 0);
  for (uint32_t r = 0; r < readings_.size(); ++r) {
    if (RepeatsAnother(r)) continue;
    const Examination::Member& member = e_.members[r];
    for (size_t w = 0; w < words_; ++w) {
      e_.several[w] |= member.repeated ? member.anon[w] : e_.anybody[w] & member.anon[w];
      e_.anybody[w] |= member.anon[w];
      for (uint64_t rest = member.anon[w] & ~e_.covered[w]; rest != 0; rest &= rest - 1) {
        const size_t page = w * 64 + static_cast<size_t>(std::countr_zero(rest));
        e_.candidates[page] = member.frames[page];
      }
      e_.covered[w] |= member.anon[w];
    }
  }
}

void WindowExaminer::FindHolders() {
  e_.covered.assign(words_, 0);
  for (uint32_t r = 0; r < readings_.size(); ++r) {
    if (RepeatsAnother(r)) continue;
    Examination::Member& member = e_.members[r];
    const Storage storage(member.storage, pages_, words_);
    if (std::equal(storage.frames.begin(), storage.frames.end(), e_.candidates.begin())) {
      std::copy(storage.anon.begin(), storage.anon.end(), storage.current.begin());
    } else {
      MarkEqual(member.frames, e_.candidates, storage.current);
    }
    for (size_t w = 0; w < words_; ++w) {
      e_.pairs[w] |= member.repeated ? member.current[w] : e_.covered[w] & member.current[w];
      e_.covered[w] |= member.current[w];
    }
  }
}

std::span<const uint64_t> WindowExaminer::Held(Slot slot) const {
  return record_ == nullptr ? std::span<const uint64_t>() : record_->Held(slot, e_.grouped);
}

uint64_t WindowExaminer::Unassigned(uint32_t reading, size_t word) const {
  const Examination::Member& member = e_.members[reading];
  return member.anon[word] & ~(member.current[word] & (e_.grouped[word] | e_.pairs[word]));
}

// What needs a look page by page, and whether anything changed at all.
void WindowExaminer::FindChanges(uint32_t reading) {
  const Examination::Member& member = e_.members[reading];
  const std::span<const uint64_t> held = Held(readings_[reading].slot);
  if (RepeatsAnother(reading) && held.data() == Held(readings_[member.same_as].slot).data()) return;  // as that one
  for (size_t w = 0; w < words_; ++w) {
    const uint64_t has = held.empty() ? 0 : held[w];
    const uint64_t sharing = member.current[w] & ~has & (e_.grouped[w] | e_.pairs[w]);
    e_.attention[w] |= has & ~member.current[w];
    e_.attention[w] |= sharing & (ksm_in_use_ ? ~uint64_t{0} : ~member.maybe_shared[w]);
    e_.attention[w] |= Unassigned(reading, w) & member.maybe_shared[w];
    if (ksm_in_use_) e_.unchanged[w] |= has & member.current[w];
    if (sharing != 0) e_.quiet = false;
  }
}

void WindowExaminer::CompareFirstLook(uint32_t reading) {
  const Examination::Member& member = e_.members[reading];
  for (uint32_t other = 0; other < readings_.size(); ++other) {
    const Examination::Member& relative = e_.members[other];
    if (relative.frames == member.frames) continue;  // it reads the same
    for (size_t w = 0; w < words_; ++w) {
      for (uint64_t rest = member.anon[w] & relative.anon[w]; rest != 0; rest &= rest - 1) {
        const size_t page = w * 64 + static_cast<size_t>(std::countr_zero(rest));
        if (relative.frames[page] != member.frames[page]) SetBit(e_.attention, page);
      }
    }
  }
}

// Bit 56 of a PMD-mapped huge page is its head's: it may say private where single pages are shared.
void WindowExaminer::CompareHugePage(uint32_t reading) {
  const Examination::Member& member = e_.members[reading];
  if (RepeatsAnother(reading) || CountBits(member.anon) != pages_ || !IsHugeRun({readings_[reading].entries, pages_}))
    return;
  for (size_t w = 0; w < words_; ++w) {
    for (uint64_t rest = Unassigned(reading, w) & e_.several[w]; rest != 0; rest &= rest - 1) {
      const size_t page = w * 64 + static_cast<size_t>(std::countr_zero(rest));
      for (uint32_t other = 0; other < readings_.size(); ++other) {
        if (other != reading && e_.members[other].frames[page] == member.frames[page]) SetBit(e_.attention, page);
      }
    }
  }
}

// Holders that the readings don't show at the recorded frame: elsewhere for the moment, ended, or not read.
void WindowExaminer::FindUnseenHolders() {
  for (const WindowRecord::Away& away : record_->away()) SetBit(e_.attention, away.page);
  for (const WindowRecord::Extra& extra : record_->extras()) SetBit(e_.attention, extra.page);
  const SlotIndex index(readings_);
  for (Slot slot = 0; slot < record_->SlotsEnd(); ++slot) {
    const bool was_read = index.Find(slot) != kNoReading;
    if (was_read && departing_.empty()) continue;
    const std::span<const uint64_t> held = Held(slot);
    if (held.empty()) continue;
    if (std::find(departing_.begin(), departing_.end(), slot) != departing_.end()) {
      FindDeparture(held);
    } else if (!was_read) {
      for (size_t w = 0; w < words_; ++w) e_.attention[w] |= held[w];
    }
  }
}

// An only holder's page that is mapped elsewhere too is judged singly: its partner may have moved.
void WindowExaminer::FindDeparture(std::span<const uint64_t> held) {
  e_.quiet = false;
  for (uint32_t r = 0; r < readings_.size(); ++r) {
    const Examination::Member& member = e_.members[r];
    for (size_t w = 0; w < words_; ++w) {
      e_.attention[w] |= held[w] & member.current[w] & member.maybe_shared[w] & ~e_.pairs[w];
    }
  }
}

void WindowExaminer::AskAboutUnchanged() {
  for (size_t w = 0; w < words_; ++w) e_.unchanged[w] &= ~e_.attention[w];
  if (AnyBit(e_.unchanged)) e_.quiet = false;
  ForEachBit(e_.unchanged, [this](size_t page) { e_.questions.push_back(e_.candidates[page]); });
}

void WindowExaminer::AddWitness(uint32_t reading) {
  if (std::find(e_.witnesses.begin(), e_.witnesses.end(), reading) == e_.witnesses.end()) {
    e_.witnesses.push_back(reading);
  }
}

void WindowExaminer::AskAbout(size_t page, const SlotIndex& index) {
  uint32_t lowest_same = kNoReading;
  uint32_t highest_same = kNoReading;
  uint32_t lowest_changed = kNoReading;
  uint32_t highest_changed = kNoReading;
  for (uint32_t r = 0; r < readings_.size(); ++r) {
    const std::span<const uint64_t> held = Held(readings_[r].slot);
    const bool has = !held.empty() && TestBit(held, page);
    const bool current = TestBit(e_.members[r].current, page);
    const uint64_t frame = e_.members[r].frames[page];
    if (ksm_in_use_ && frame != kNoFrame) e_.questions.push_back(frame);
    if (has && current) {
      if (lowest_same == kNoReading) lowest_same = r;
      highest_same = r;
    } else if (has && frame != kNoFrame) {
      if (lowest_changed == kNoReading) lowest_changed = r;
      highest_changed = r;
    } else if (frame != kNoFrame) {
      const bool new_sharing = current && (TestBit(e_.grouped, page) || TestBit(e_.pairs, page));
      if (new_sharing && !TestBit(e_.members[r].maybe_shared, page)) AddWitness(r);
    }
    if (IsUnseenChild(r) && frame != kNoFrame) AskAboutFirstLook(r, page, index);
  }
  if (highest_changed == kNoReading) return;
  if (lowest_same == kNoReading || (e_.swapped_in && lowest_same == highest_same)) {
    for (uint32_t r = 0; r < readings_.size(); ++r) {
      if (e_.members[r].frames[page] != kNoFrame) e_.questions.push_back(e_.members[r].frames[page]);
    }
  }
  if (lowest_same == kNoReading) {
    if (lowest_changed != highest_changed) AddWitness(lowest_changed);
  } else if (highest_same < highest_changed) {
    AddWitness(lowest_same);
  }
}

void WindowExaminer::AskAboutFirstLook(uint32_t reading, size_t page, const SlotIndex& index) {
  const uint64_t frame = e_.members[reading].frames[page];
  const uint32_t parent = index.Find(readings_[reading].parent);
  const bool parent_has = parent != kNoReading && e_.members[parent].frames[page] != kNoFrame;
  e_.questions.push_back(frame);
  for (uint32_t other = 0; other < readings_.size(); ++other) {
    if (other == reading || (parent_has && other != parent)) continue;
    if (e_.members[other].frames[page] == kNoFrame) continue;
    e_.questions.push_back(e_.members[other].frames[page]);
    if (e_.members[other].frames[page] != frame) AddWitness(other);
  }
  AddWitness(reading);
}

}  // namespace cow::memory
