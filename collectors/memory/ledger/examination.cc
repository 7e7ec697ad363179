#include "collectors/memory/ledger/examination.h"

#include <algorithm>
#include <cstring>

namespace cow::memory {
namespace {

// A member's storage: a frame per page, then the bitmaps.
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

// Removes markers from a word of swap entries.
uint64_t AwayOf(std::span<const uint64_t> entries, uint64_t swapped) {
  for (uint64_t rest = swapped; rest != 0; rest &= rest - 1) {
    if (!IsAway(entries[static_cast<size_t>(std::countr_zero(rest))])) swapped &= ~(rest & (~rest + 1));
  }
  return swapped;
}

// Splits entries into frames and bitmaps. Shifts each bit into the top of its word, without a branch. A page whose
// entry has one of `once_bits` counts as mapped once.
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

// True if the frame has its page's place in a huge page or is consecutive with a neighbour's. Copies made one after
// another can look the same.
bool MayBeOfLargeFolio(std::span<const uint64_t> frames, size_t page) {
  const uint64_t frame = frames[page];
  return frame % frames.size() == page || (page > 0 && frames[page - 1] == frame - 1) ||
         (page + 1 < frames.size() && frames[page + 1] == frame + 1);
}

}  // namespace

WindowExaminer::WindowExaminer(size_t pages, std::span<const Reading> readings, const PackedWindow* record,
                               const MovedPages& moved, uint64_t window, std::span<const Slot> departing,
                               Examination& examination)
    : pages_(pages),
      words_((pages + 63) / 64),
      readings_(readings),
      record_(record),
      moved_(moved),
      window_(window),
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
  for (uint32_t r = 0; r < readings_.size(); ++r) FindChanges(r);
  CompareFirstLooks();
  CompareHugePages();
  if (record_ != nullptr) FindUnseenHolders();
  AskAboutUnchanged();
  if (!AnyBit(e_.attention)) return;
  e_.quiet = false;
  const SlotIndex index(readings_);
  ForEachBit(e_.attention, [&](size_t page) { AskAbout(page, index); });
  if (record_ == nullptr) return;
  for (const WindowRecord::Extra& extra : record_->extras()) AskAboutExtra(extra, index);
}

void WindowExaminer::Clear() {
  e_.questions.clear();
  e_.witnesses.clear();
  for (std::vector<uint64_t>* bitmap :
       {&e_.attention, &e_.unstable, &e_.grouped, &e_.pairs, &e_.unchanged, &e_.several}) {
    bitmap->assign(words_, 0);
  }
  e_.quiet = true;
  e_.marks_decide = false;
  e_.any_away = false;
  if (e_.members.size() < readings_.size()) e_.members.resize(readings_.size());
  e_.is_witness.assign(readings_.size(), false);
  e_.unseen.clear();
  for (uint32_t r = 0; r < readings_.size(); ++r) {
    if (IsUnseenChild(r)) e_.unseen.push_back(r);
  }
}

// Finds an earlier member with equal entries: the first one or the previous one (members without the mapping are
// adjacent).
uint32_t WindowExaminer::FindSame(uint32_t reading) const {
  if (reading == 0 || moved_.Has(window_)) return kNoReading;
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
  if (moved_.Has(window_)) {
    std::vector<uint64_t> moved(words_);
    moved_.MarkHeld(window_, readings_[reading].slot, moved);
    ForEachBit(moved, [&](size_t page) { storage.frames[page] = kNoFrame; });
    for (size_t w = 0; w < words_; ++w) {
      storage.anon[w] &= ~moved[w];
      storage.maybe_shared[w] &= ~moved[w];
    }
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

// Two holders with the same frame share it, so it becomes the candidate. If no two agree, no frame is taken and the
// kernel's marks decide.
void WindowExaminer::RecallDroppedFrames() {
  std::vector<std::span<const uint64_t>> held;
  held.reserve(readings_.size());
  for (const Reading& reading : readings_) held.push_back(Held(reading.slot));
  std::vector<std::pair<uint64_t, size_t>> frames;  // (frame, index of the holder)
  ForEachBit(e_.grouped, [&](size_t page) {
    frames.clear();
    for (size_t r = 0; r < held.size(); ++r) {
      const uint64_t frame = e_.members[r].frames[page];
      if (!held[r].empty() && TestBit(held[r], page) && frame != kNoFrame) frames.emplace_back(frame, r);
    }
    std::sort(frames.begin(), frames.end());
    std::pair<size_t, uint64_t> found(readings_.size(), kForgottenFrame);  // lowest holder with a partner
    for (size_t i = 0; i + 1 < frames.size(); ++i) {
      if (frames[i].first == frames[i + 1].first) found = std::min(found, std::pair(frames[i].second, frames[i].first));
    }
    e_.candidates[page] = found.second;
  });
}

// If no frame is recorded, takes the first member's frame as the candidate.
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

// Finds the pages to judge one by one, and whether anything changed.
void WindowExaminer::FindChanges(uint32_t reading) {
  const Examination::Member& member = e_.members[reading];
  const std::span<const uint64_t> held = Held(readings_[reading].slot);
  if (RepeatsAnother(reading) && held.data() == Held(readings_[member.same_as].slot).data()) return;  // same result
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

// Finds pages of a child at its first look at which the members' frames differ.
void WindowExaminer::CompareFirstLooks() {
  if (e_.unseen.empty()) return;
  std::vector<uint64_t> first(pages_, kNoFrame);  // per page: the first frame found
  std::vector<uint64_t> several(words_, 0);       // bitmap: members have different frames
  for (uint32_t r = 0; r < readings_.size(); ++r) {
    if (RepeatsAnother(r)) continue;
    const Examination::Member& member = e_.members[r];
    ForEachBit(member.anon, [&](size_t page) {
      if (first[page] == kNoFrame) first[page] = member.frames[page];
      if (first[page] != member.frames[page]) SetBit(several, page);
    });
  }
  for (const uint32_t r : e_.unseen) {
    for (size_t w = 0; w < words_; ++w) e_.attention[w] |= e_.members[r].anon[w] & several[w];
  }
}

bool WindowExaminer::IsOwnHugePage(uint32_t reading) const {
  return !RepeatsAnother(reading) && CountBits(e_.members[reading].anon) == pages_ &&
         IsHugeRun({readings_[reading].entries, pages_});
}

// Bit 56 of a PMD-mapped huge page is its head's: it can say private while single pages are shared. Compare frames
// instead.
void WindowExaminer::CompareHugePages() {
  std::vector<uint32_t> huge;
  std::vector<uint64_t> asked(words_, 0);
  for (uint32_t r = 0; r < readings_.size(); ++r) {
    if (!IsOwnHugePage(r)) continue;
    huge.push_back(r);
    for (size_t w = 0; w < words_; ++w) asked[w] |= Unassigned(r, w) & e_.several[w];
  }
  std::vector<uint64_t> frames;
  ForEachBit(asked, [&](size_t page) {
    frames.clear();
    for (uint32_t r = 0; r < readings_.size(); ++r) {
      const uint64_t frame = e_.members[r].frames[page];
      if (frame != kNoFrame) frames.push_back(frame);
    }
    std::sort(frames.begin(), frames.end());
    for (const uint32_t r : huge) {
      if ((Unassigned(r, page / 64) >> (page % 64) & 1) == 0) continue;
      const auto [begin, end] = std::equal_range(frames.begin(), frames.end(), e_.members[r].frames[page]);
      if (end - begin > 1) SetBit(e_.attention, page);
    }
  });
}

// Finds pages whose recorded holders the readings do not show: away, ended, or not read.
void WindowExaminer::FindUnseenHolders() {
  for (const WindowRecord::Away& away : record_->away()) SetBit(e_.attention, away.page);
  for (const WindowRecord::Extra& extra : record_->extras()) SetBit(e_.attention, extra.page);
  const SlotIndex index(readings_);
  std::vector<uint64_t> leaving(words_, 0);
  for (const Slot slot : departing_) {
    const std::span<const uint64_t> held = Held(slot);
    for (size_t w = 0; w < held.size(); ++w) leaving[w] |= held[w];
  }
  std::vector<bool> departs(record_->SlotsEnd());
  for (const Slot slot : departing_) {
    if (slot < departs.size()) departs[slot] = true;
  }
  for (Slot slot = 0; slot < record_->SlotsEnd(); ++slot) {
    if (departs[slot] || index.Find(slot) != kNoReading) continue;
    const std::span<const uint64_t> held = Held(slot);
    for (size_t w = 0; w < held.size(); ++w) e_.attention[w] |= held[w];
  }
  if (!AnyBit(leaving)) return;
  e_.quiet = false;
  // Judges a last holder's page one by one if the page is mapped elsewhere too: its partner may have moved.
  for (uint32_t r = 0; r < readings_.size(); ++r) {
    if (RepeatsAnother(r)) continue;
    const Examination::Member& member = e_.members[r];
    for (size_t w = 0; w < words_; ++w) {
      e_.attention[w] |= leaving[w] & member.current[w] & member.maybe_shared[w] & ~e_.pairs[w];
    }
  }
}

void WindowExaminer::AskAboutUnchanged() {
  for (size_t w = 0; w < words_; ++w) e_.unchanged[w] &= ~e_.attention[w];
  if (AnyBit(e_.unchanged)) e_.quiet = false;
  ForEachBit(e_.unchanged, [this](size_t page) { e_.questions.push_back(e_.candidates[page]); });
}

void WindowExaminer::AddWitness(uint32_t reading) {
  if (e_.is_witness[reading]) return;
  e_.is_witness[reading] = true;
  e_.witnesses.push_back(reading);
}

void WindowExaminer::AskAbout(size_t page, const SlotIndex& index) {
  holders_.clear();
  for (uint32_t r = 0; r < readings_.size(); ++r) {
    const std::span<const uint64_t> held = Held(readings_[r].slot);
    const bool has = !held.empty() && TestBit(held, page);
    if (has) holders_.push_back(r);
    const uint64_t frame = e_.members[r].frames[page];
    if (frame == kNoFrame) continue;
    if (ksm_in_use_) e_.questions.push_back(frame);
    const bool current = TestBit(e_.members[r].current, page);
    const bool new_sharing = current && !has && (TestBit(e_.grouped, page) || TestBit(e_.pairs, page));
    if (new_sharing && !TestBit(e_.members[r].maybe_shared, page)) AddWitness(r);
  }
  if (!e_.unseen.empty()) AskAboutFirstLooks(page, index);
  if (AskAboutHolders(page, e_.candidates[page])) AskAboutAll(page);
}

// Asks about one more group at the page.
void WindowExaminer::AskAboutExtra(const WindowRecord::Extra& extra, const SlotIndex& index) {
  holders_.clear();
  for (const Slot slot : extra.holders) {
    const uint32_t reading = index.Find(slot);
    if (reading != kNoReading) holders_.push_back(reading);
  }
  std::sort(holders_.begin(), holders_.end());
  if (!AskAboutHolders(extra.page, extra.frame)) return;
  for (const uint32_t r : holders_) {
    const uint64_t frame = e_.members[r].frames[extra.page];
    if (frame != kNoFrame) e_.questions.push_back(frame);
  }
}

// `recorded`: the frame that the holders shared. Returns true if the verdict rests on the marks of their present
// frames.
bool WindowExaminer::AskAboutHolders(size_t page, uint64_t recorded) {
  uint32_t lowest_same = kNoReading;
  uint32_t highest_same = kNoReading;
  uint32_t lowest_changed = kNoReading;
  uint32_t highest_changed = kNoReading;
  for (const uint32_t r : holders_) {
    const uint64_t frame = e_.members[r].frames[page];
    if (frame == kNoFrame) continue;
    if (frame == recorded) {
      if (lowest_same == kNoReading) lowest_same = r;
      highest_same = r;
      continue;
    }
    // The page may have moved and another taken its place: the mapcount of the recorded frame decides.
    if (readings_[r].remapped && recorded != kForgottenFrame) e_.questions.push_back(recorded);
    if (MayBeOfLargeFolio({e_.members[r].frames, pages_}, page)) e_.questions.push_back(frame);
    if (frame % pages_ == page) e_.questions.push_back(MiddleFrame(frame, pages_));
    if (lowest_changed == kNoReading) lowest_changed = r;
    highest_changed = r;
  }
  if (highest_changed == kNoReading) return false;
  if (lowest_same == kNoReading) {
    if (lowest_changed != highest_changed) AddWitness(lowest_changed);
  } else if (highest_same < highest_changed) {
    AddWitness(lowest_same);
  }
  const bool marks_decide = lowest_same == kNoReading || (e_.swapped_in && lowest_same == highest_same);
  e_.marks_decide = e_.marks_decide || marks_decide;
  return marks_decide;
}

void WindowExaminer::AskAboutAll(size_t page) {
  for (uint32_t r = 0; r < readings_.size(); ++r) {
    const uint64_t frame = e_.members[r].frames[page];
    const bool asked = r != 0 && e_.members[r - 1].frames[page] == frame;
    if (frame != kNoFrame && !asked) e_.questions.push_back(frame);
  }
}

// Compares a child's page with its parent's, or with all members' if the parent has none. Members with different pages
// become witnesses.
void WindowExaminer::AskAboutFirstLooks(size_t page, const SlotIndex& index) {
  constexpr uint64_t kSeveral = kNoFrame - 1;
  const auto frame_of = [&](uint32_t r) { return e_.members[r].frames[page]; };
  uint64_t without_parent = kNoFrame;  // frame of children without a parent's page
  for (const uint32_t r : e_.unseen) {
    if (frame_of(r) == kNoFrame) continue;
    AddWitness(r);
    e_.questions.push_back(frame_of(r));
    const uint32_t parent = index.Find(readings_[r].parent);
    if (parent != kNoReading && frame_of(parent) != kNoFrame) {
      e_.questions.push_back(frame_of(parent));
      if (frame_of(parent) != frame_of(r)) AddWitness(parent);
    } else if (without_parent == kNoFrame) {
      without_parent = frame_of(r);
    } else if (without_parent != frame_of(r)) {
      without_parent = kSeveral;
    }
  }
  if (without_parent == kNoFrame) return;
  AskAboutAll(page);
  for (uint32_t r = 0; r < readings_.size(); ++r) {
    if (frame_of(r) != kNoFrame && frame_of(r) != without_parent) AddWitness(r);
  }
}

}  // namespace cow::memory
