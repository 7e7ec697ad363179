#include "collectors/memory/ledger/comparison.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace cow::memory {
namespace {

// A member's storage: a frame per page, and its bitmaps.
struct Storage {
  explicit Storage(Comparison::Member& member)
      : frames(member.own_frames),
        anon(member.own_bitmaps.At(0)),
        maybe_shared(member.own_bitmaps.At(1)),
        away(member.own_bitmaps.At(2)),
        current(member.own_bitmaps.At(3)) {}

  static void Resize(Comparison::Member& member, size_t pages) {
    member.own_frames.resize(pages);
    member.own_bitmaps.Reshape(4, pages);
  }

  std::span<Pfn> frames;
  BitmapSpan anon;
  BitmapSpan maybe_shared;
  BitmapSpan away;
  BitmapSpan current;
};

// Removes markers from a word of swap entries.
uint64_t AwayOf(std::span<const PageEntry> entries, uint64_t swapped) {
  for (uint64_t rest = swapped; rest != 0; rest &= rest - 1) {
    if (!entries[static_cast<size_t>(std::countr_zero(rest))].IsAway()) swapped &= ~(rest & (~rest + 1));
  }
  return swapped;
}

// Splits entries into frames and bitmaps. Shifts each bit into the top of its word, without a branch. A page whose
// entry has one of `once_bits` counts as mapped once.
void Decode(std::span<const PageEntry> entries, Pfn zero_frame, uint64_t once_bits, Storage& member) {
  constexpr uint64_t kTop = uint64_t{1} << 63;
  for (size_t w = 0; w < member.anon.words().size(); ++w) {
    const std::span<const PageEntry> of_word = entries.subspan(w * 64, std::min<size_t>(64, entries.size() - w * 64));
    const std::span<Pfn> frames = member.frames.subspan(w * 64, of_word.size());
    uint64_t anon = 0;
    uint64_t once = 0;
    uint64_t swapped = 0;
    for (size_t b = 0; b < of_word.size(); ++b) {
      const PageEntry entry = of_word[b];
      frames[b] = AnonFrame(entry, zero_frame);
      anon = (anon >> 1) | (frames[b] == Pfn::None() ? 0 : kTop);
      once = (once >> 1) | ((entry.bits() & once_bits) != 0 ? kTop : 0);
      swapped = (swapped >> 1) | (entry.IsSwap() ? kTop : 0);
    }
    const size_t unused = 64 - of_word.size();
    member.anon.Word(w) = anon >> unused;
    member.maybe_shared.Word(w) = (anon & ~once) >> unused;
    member.away.Word(w) = AwayOf(of_word, swapped >> unused);
  }
}

void MarkEqual(const Pfn* frames, std::span<const Pfn> candidates, BitmapSpan equal) {
  for (size_t w = 0; w < equal.words().size(); ++w) {
    uint64_t bits = 0;
    const size_t end = std::min<size_t>(64, candidates.size() - w * 64);
    for (size_t b = 0; b < end; ++b) {
      const Pfn frame = frames[w * 64 + b];
      bits |= static_cast<uint64_t>(frame == candidates[w * 64 + b] && frame != Pfn::None()) << b;
    }
    equal.Word(w) = bits;
  }
}

// True if the frame has its page's place in a huge page or is consecutive with a neighbour's. Copies made one after
// another can look the same.
bool MayBeOfLargeFolio(std::span<const Pfn> frames, size_t page) {
  const Pfn frame = frames[page];
  return frame.InRun(frames.size()) == page || (page > 0 && frames[page - 1] == frame - 1) ||
         (page + 1 < frames.size() && frames[page + 1] == frame + 1);
}

class WindowComparer {
 public:
  WindowComparer(const WindowToCompare& window, const Circumstances& circumstances, Comparison& comparison)
      : window_(window),
        circumstances_(circumstances),
        pages_(window.pages),
        words_(BitmapWords(window.pages)),
        readings_(window.readings),
        record_(window.record),
        moved_(window.moved),
        c_(comparison) {}

  void Compare() {
    c_.swapped_in = circumstances_.swapped_in;
    Clear();
    for (uint32_t r = 0; r < readings_.size(); ++r) DecodeMember(r);
    RecallFrames();
    FindCandidates();
    FindHolders();
    for (uint32_t r = 0; r < readings_.size(); ++r) FindChanges(r);
    FindDifferingFirstLooks();
    FindSharedHugePages();
    if (record_ != nullptr) FindUnseenHolders();
    AskAboutUnchanged();
    if (!c_.attention.Any()) return;
    c_.quiet = false;
    const ReadingIndex index(readings_);
    c_.attention.ForEach([&](size_t page) { AskAbout(page, index); });
    if (record_ == nullptr) return;
    for (const WindowRecord::Extra& extra : record_->extras()) AskAboutExtra(extra, index);
  }

 private:
  void Clear() {
    c_.questions.clear();
    c_.witnesses.clear();
    for (WindowBitmap* bitmap : {&c_.attention, &c_.unstable, &c_.grouped, &c_.pairs, &c_.unchanged, &c_.two_anon}) {
      bitmap->Reset(pages_);
    }
    c_.quiet = true;
    c_.marks_decide = false;
    c_.any_away = false;
    if (c_.members.size() < readings_.size()) c_.members.resize(readings_.size());
    c_.is_witness.assign(readings_.size(), false);
    c_.unseen.clear();
    for (uint32_t r = 0; r < readings_.size(); ++r) {
      if (readings_[r].IsNewChild()) c_.unseen.push_back(r);
    }
  }

  // Finds an earlier member with equal entries: the first one or the previous one (members without the mapping are
  // adjacent).
  uint32_t FindSame(uint32_t reading) const {
    if (reading == 0 || moved_.Has(window_.window)) return kNoReading;
    const PageEntry* entries = readings_[reading].entries;
    for (const uint32_t other : {uint32_t{0}, reading - 1}) {
      if (readings_[other].entries == entries ||
          std::memcmp(readings_[other].entries, entries, pages_ * sizeof(PageEntry)) == 0) {
        return RepeatsAnother(other) ? c_.members[other].same_as : other;
      }
    }
    return kNoReading;
  }

  void DecodeMember(uint32_t reading) {
    Comparison::Member& member = c_.members[reading];
    member.same_as = FindSame(reading);
    member.repeated = false;
    if (member.same_as != kNoReading) {
      Comparison::Member& same = c_.members[member.same_as];
      same.repeated = true;
      static_cast<Comparison::Entries&>(member) = same;
      return;
    }
    Storage::Resize(member, pages_);
    Storage storage(member);
    Decode({readings_[reading].entries, pages_}, window_.zero_frame,
           circumstances_.mapped_once_known ? procfs::kPagemapMappedOnce : 0, storage);
    if (moved_.Has(window_.window)) {
      WindowBitmap moved(pages_);
      moved_.MarkHeld(window_.window, readings_[reading].slot, moved);
      moved.ForEach([&](size_t page) { storage.frames[page] = Pfn::None(); });
      for (size_t w = 0; w < words_; ++w) {
        storage.anon.Word(w) &= ~moved.Word(w);
        storage.maybe_shared.Word(w) &= ~moved.Word(w);
      }
    }
    static_cast<Comparison::Entries&>(member) = {storage.frames.data(), storage.anon, storage.maybe_shared,
                                                 storage.away, storage.current};
    c_.any_away = c_.any_away || member.away.Any();
  }

  void RecallFrames() {
    c_.candidates.resize(pages_);
    if (record_ != nullptr && record_->has_frames()) {
      record_->CopyRecorded(c_.grouped);
      record_->CopyFrames(c_.candidates);
      return;
    }
    std::fill(c_.candidates.begin(), c_.candidates.end(), Pfn::None());
    if (record_ == nullptr) return;
    record_->CopyRecorded(c_.grouped);
    RecallDroppedFrames();
  }

  // Two holders with the same frame share it, so it becomes the candidate. If no two agree, no frame is taken and the
  // kernel's marks decide.
  void RecallDroppedFrames() {
    std::vector<BitmapView> held;
    held.reserve(readings_.size());
    for (const Reading& reading : readings_) held.push_back(Held(reading.slot));
    std::vector<std::pair<Pfn, size_t>> frames;  // (frame, index of the holder)
    c_.grouped.ForEach([&](size_t page) {
      frames.clear();
      for (size_t r = 0; r < held.size(); ++r) {
        const Pfn frame = c_.members[r].frames[page];
        if (!held[r].empty() && held[r].Test(page) && frame != Pfn::None()) frames.emplace_back(frame, r);
      }
      std::sort(frames.begin(), frames.end());
      std::pair<size_t, Pfn> found(readings_.size(), kForgottenFrame);  // lowest holder with a partner
      for (size_t i = 0; i + 1 < frames.size(); ++i) {
        if (frames[i].first == frames[i + 1].first)
          found = std::min(found, std::pair(frames[i].second, frames[i].first));
      }
      c_.candidates[page] = found.second;
    });
  }

  // If no frame is recorded, takes the first member's frame as the candidate.
  void FindCandidates() {
    c_.covered = c_.grouped;
    c_.any_anon.Reset(pages_);
    for (uint32_t r = 0; r < readings_.size(); ++r) {
      if (RepeatsAnother(r)) continue;
      const Comparison::Member& member = c_.members[r];
      for (size_t w = 0; w < words_; ++w) {
        c_.two_anon.Word(w) |= member.repeated ? member.anon.Word(w) : c_.any_anon.Word(w) & member.anon.Word(w);
        c_.any_anon.Word(w) |= member.anon.Word(w);
        for (uint64_t rest = member.anon.Word(w) & ~c_.covered.Word(w); rest != 0; rest &= rest - 1) {
          const size_t page = w * 64 + static_cast<size_t>(std::countr_zero(rest));
          c_.candidates[page] = member.frames[page];
        }
        c_.covered.Word(w) |= member.anon.Word(w);
      }
    }
  }

  void FindHolders() {
    c_.covered.Reset(pages_);
    for (uint32_t r = 0; r < readings_.size(); ++r) {
      if (RepeatsAnother(r)) continue;
      Comparison::Member& member = c_.members[r];
      const Storage storage(member);
      if (std::memcmp(storage.frames.data(), c_.candidates.data(), pages_ * sizeof(Pfn)) == 0) {
        std::copy_n(storage.anon.words().begin(), words_, storage.current.words().begin());
      } else {
        MarkEqual(member.frames, c_.candidates, storage.current);
      }
      for (size_t w = 0; w < words_; ++w) {
        c_.pairs.Word(w) |= member.repeated ? member.current.Word(w) : c_.covered.Word(w) & member.current.Word(w);
        c_.covered.Word(w) |= member.current.Word(w);
      }
    }
  }

  // Empty if the slot holds nothing.
  BitmapView Held(MemberIndex slot) const {
    return record_ == nullptr ? BitmapView() : record_->Held(slot, c_.grouped);
  }

  // Pages of a member that neither the record nor a second member has at this frame.
  uint64_t Unassigned(uint32_t reading, size_t word) const {
    const Comparison::Member& member = c_.members[reading];
    return member.anon.Word(word) & ~(member.current.Word(word) & (c_.grouped.Word(word) | c_.pairs.Word(word)));
  }

  // Finds the pages to judge one by one, and whether anything changed.
  void FindChanges(uint32_t reading) {
    const Comparison::Member& member = c_.members[reading];
    const BitmapView held = Held(readings_[reading].slot);
    if (RepeatsAnother(reading) && AreSameWords(held, Held(readings_[member.same_as].slot))) return;  // same result
    for (size_t w = 0; w < words_; ++w) {
      const uint64_t has = held.empty() ? 0 : held.Word(w);
      const uint64_t sharing = member.current.Word(w) & ~has & (c_.grouped.Word(w) | c_.pairs.Word(w));
      c_.attention.Word(w) |= has & ~member.current.Word(w);
      c_.attention.Word(w) |= sharing & (circumstances_.ksm_in_use ? ~uint64_t{0} : ~member.maybe_shared.Word(w));
      c_.attention.Word(w) |= Unassigned(reading, w) & member.maybe_shared.Word(w);
      if (circumstances_.ksm_in_use) c_.unchanged.Word(w) |= has & member.current.Word(w);
      if (sharing != 0) c_.quiet = false;
    }
  }

  // Finds pages of a child at its first look at which the members' frames differ.
  void FindDifferingFirstLooks() {
    if (c_.unseen.empty()) return;
    std::vector<Pfn> first(pages_);  // per page: the first frame found
    WindowBitmap several(pages_);    // members have different frames
    for (uint32_t r = 0; r < readings_.size(); ++r) {
      if (RepeatsAnother(r)) continue;
      const Comparison::Member& member = c_.members[r];
      member.anon.ForEach([&](size_t page) {
        if (first[page] == Pfn::None()) first[page] = member.frames[page];
        if (first[page] != member.frames[page]) several.Set(page);
      });
    }
    for (const uint32_t r : c_.unseen) {
      for (size_t w = 0; w < words_; ++w) c_.attention.Word(w) |= c_.members[r].anon.Word(w) & several.Word(w);
    }
  }

  bool IsOwnHugePage(uint32_t reading) const {
    return !RepeatsAnother(reading) && c_.members[reading].anon.Count() == pages_ &&
           IsHugeRun({readings_[reading].entries, pages_});
  }

  // Bit 56 of a PMD-mapped huge page is its head's: it can say private while single pages are shared. Compare frames
  // instead.
  void FindSharedHugePages() {
    std::vector<uint32_t> huge;
    WindowBitmap asked(pages_);
    for (uint32_t r = 0; r < readings_.size(); ++r) {
      if (!IsOwnHugePage(r)) continue;
      huge.push_back(r);
      for (size_t w = 0; w < words_; ++w) asked.Word(w) |= Unassigned(r, w) & c_.two_anon.Word(w);
    }
    std::vector<Pfn> frames;
    asked.ForEach([&](size_t page) {
      frames.clear();
      for (uint32_t r = 0; r < readings_.size(); ++r) {
        const Pfn frame = c_.members[r].frames[page];
        if (frame != Pfn::None()) frames.push_back(frame);
      }
      std::sort(frames.begin(), frames.end());
      for (const uint32_t r : huge) {
        if ((Unassigned(r, page / 64) >> (page % 64) & 1) == 0) continue;
        const auto [begin, end] = std::equal_range(frames.begin(), frames.end(), c_.members[r].frames[page]);
        if (end - begin > 1) c_.attention.Set(page);
      }
    });
  }

  // Finds pages whose recorded holders the readings do not show: away, ended, or not read.
  void FindUnseenHolders() {
    for (const WindowRecord::Away& away : record_->away()) c_.attention.Set(away.page);
    for (const WindowRecord::Extra& extra : record_->extras()) c_.attention.Set(extra.page);
    const ReadingIndex index(readings_);
    WindowBitmap leaving(pages_);
    for (const MemberIndex slot : window_.departing) {
      const BitmapView held = Held(slot);
      for (size_t w = 0; w < held.words().size(); ++w) leaving.Word(w) |= held.Word(w);
    }
    const MemberSet departing(window_.departing);
    for (MemberIndex slot; slot < record_->SlotsEnd(); ++slot) {
      if (departing.Has(slot) || index.Find(slot) != kNoReading) continue;
      const BitmapView held = Held(slot);
      for (size_t w = 0; w < held.words().size(); ++w) c_.attention.Word(w) |= held.Word(w);
    }
    if (!leaving.Any()) return;
    c_.quiet = false;
    // Judges a last holder's page one by one if the page is mapped elsewhere too: its partner may have moved.
    for (uint32_t r = 0; r < readings_.size(); ++r) {
      if (RepeatsAnother(r)) continue;
      const Comparison::Member& member = c_.members[r];
      for (size_t w = 0; w < words_; ++w) {
        c_.attention.Word(w) |=
            leaving.Word(w) & member.current.Word(w) & member.maybe_shared.Word(w) & ~c_.pairs.Word(w);
      }
    }
  }

  void AskAboutUnchanged() {
    for (size_t w = 0; w < words_; ++w) c_.unchanged.Word(w) &= ~c_.attention.Word(w);
    if (c_.unchanged.Any()) c_.quiet = false;
    c_.unchanged.ForEach([this](size_t page) { c_.questions.push_back(c_.candidates[page]); });
  }

  void AddWitness(uint32_t reading) {
    if (c_.is_witness[reading]) return;
    c_.is_witness[reading] = true;
    c_.witnesses.push_back(reading);
  }

  void AskAbout(size_t page, const ReadingIndex& index) {
    holders_.clear();
    for (uint32_t r = 0; r < readings_.size(); ++r) {
      const BitmapView held = Held(readings_[r].slot);
      const bool has = !held.empty() && held.Test(page);
      if (has) holders_.push_back(r);
      const Pfn frame = c_.members[r].frames[page];
      if (frame == Pfn::None()) continue;
      if (circumstances_.ksm_in_use) c_.questions.push_back(frame);
      const bool current = c_.members[r].current.Test(page);
      const bool new_sharing = current && !has && (c_.grouped.Test(page) || c_.pairs.Test(page));
      if (new_sharing && !c_.members[r].maybe_shared.Test(page)) AddWitness(r);
    }
    if (!c_.unseen.empty()) AskAboutFirstLooks(page, index);
    if (AskAboutHolders(page, c_.candidates[page])) AskAboutAll(page);
  }

  // Asks about one more group at the page.
  void AskAboutExtra(const WindowRecord::Extra& extra, const ReadingIndex& index) {
    holders_.clear();
    for (const MemberIndex slot : extra.holders) {
      const uint32_t reading = index.Find(slot);
      if (reading != kNoReading) holders_.push_back(reading);
    }
    std::sort(holders_.begin(), holders_.end());
    if (!AskAboutHolders(extra.page, extra.frame)) return;
    for (const uint32_t r : holders_) {
      const Pfn frame = c_.members[r].frames[extra.page];
      if (frame != Pfn::None()) c_.questions.push_back(frame);
    }
  }

  // `recorded`: the frame that the holders shared. Returns true if the verdict rests on the marks of their present
  // frames.
  bool AskAboutHolders(size_t page, Pfn recorded) {
    uint32_t lowest_same = kNoReading;
    uint32_t highest_same = kNoReading;
    uint32_t lowest_changed = kNoReading;
    uint32_t highest_changed = kNoReading;
    for (const uint32_t r : holders_) {
      const Pfn frame = c_.members[r].frames[page];
      if (frame == Pfn::None()) continue;
      if (frame == recorded) {
        if (lowest_same == kNoReading) lowest_same = r;
        highest_same = r;
        continue;
      }
      // The page may have moved and another taken its place: the mapcount of the recorded frame decides.
      if (readings_[r].remapped && recorded != kForgottenFrame) c_.questions.push_back(recorded);
      if (MayBeOfLargeFolio({c_.members[r].frames, pages_}, page)) c_.questions.push_back(frame);
      if (frame.InRun(pages_) == page) c_.questions.push_back(MiddleFrame(frame, pages_));
      if (lowest_changed == kNoReading) lowest_changed = r;
      highest_changed = r;
    }
    if (highest_changed == kNoReading) return false;
    if (lowest_same == kNoReading) {
      if (lowest_changed != highest_changed) AddWitness(lowest_changed);
    } else if (highest_same < highest_changed) {
      AddWitness(lowest_same);
    }
    const bool marks_decide = lowest_same == kNoReading || (c_.swapped_in && lowest_same == highest_same);
    c_.marks_decide = c_.marks_decide || marks_decide;
    return marks_decide;
  }

  void AskAboutAll(size_t page) {
    for (uint32_t r = 0; r < readings_.size(); ++r) {
      const Pfn frame = c_.members[r].frames[page];
      const bool asked = r != 0 && c_.members[r - 1].frames[page] == frame;
      if (frame != Pfn::None() && !asked) c_.questions.push_back(frame);
    }
  }

  // Compares a child's page with its parent's, or with all members' if the parent has none. Members with different
  // pages become witnesses.
  void AskAboutFirstLooks(size_t page, const ReadingIndex& index) {
    constexpr Pfn kSeveral = Pfn::None() - 1;
    const auto frame_of = [&](uint32_t r) { return c_.members[r].frames[page]; };
    Pfn without_parent;  // frame of children without a parent's page
    for (const uint32_t r : c_.unseen) {
      if (frame_of(r) == Pfn::None()) continue;
      AddWitness(r);
      c_.questions.push_back(frame_of(r));
      const uint32_t parent = index.Find(readings_[r].parent);
      if (parent != kNoReading && frame_of(parent) != Pfn::None()) {
        c_.questions.push_back(frame_of(parent));
        if (frame_of(parent) != frame_of(r)) AddWitness(parent);
      } else if (without_parent == Pfn::None()) {
        without_parent = frame_of(r);
      } else if (without_parent != frame_of(r)) {
        without_parent = kSeveral;
      }
    }
    if (without_parent == Pfn::None()) return;
    AskAboutAll(page);
    for (uint32_t r = 0; r < readings_.size(); ++r) {
      if (frame_of(r) != Pfn::None() && frame_of(r) != without_parent) AddWitness(r);
    }
  }
  // True if an earlier member has equal entries.
  bool RepeatsAnother(uint32_t reading) const { return c_.members[reading].same_as != kNoReading; }

  const WindowToCompare& window_;
  const Circumstances& circumstances_;
  size_t pages_;
  size_t words_;
  std::span<const Reading> readings_;
  const PackedWindow* record_;
  const MovedPages& moved_;
  Comparison& c_;
  std::vector<uint32_t> holders_;  // scratch: readings of one group's holders, ascending
};

}  // namespace

void CompareWindow(const WindowToCompare& window, const Circumstances& circumstances, Comparison& comparison) {
  WindowComparer(window, circumstances, comparison).Compare();
}

}  // namespace cow::memory
