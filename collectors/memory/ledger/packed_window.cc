#include "collectors/memory/ledger/packed_window.h"

#include <algorithm>
#include <bit>
#include <limits>

namespace cow::memory {
namespace {

// Sets the bits of all pages of a window.
void Fill(BitmapSpan bitmap, size_t pages) {
  const std::span<uint64_t> words = bitmap.words();
  std::fill(words.begin(), words.end(), ~uint64_t{0});
  if (pages % 64 != 0) words.back() = (uint64_t{1} << (pages % 64)) - 1;
}

}  // namespace

PackedFrames::PackedFrames(std::span<const Pfn> frames, BitmapView recorded) {
  constexpr uint64_t kFar = uint64_t{1} << 63;  // no frame is that far from its page
  const size_t count = recorded.Count();
  const bool every_page = count == frames.size();
  const auto for_each_page = [&](auto&& visit) {
    if (!every_page) recorded.ForEach(visit);
    for (size_t page = 0; every_page && page < count; ++page) visit(page);
  };
  size_t runs = 0;
  uint64_t any = 0;
  uint64_t distance = kFar;  // of a run: frame − page, modulo 2^64
  for_each_page([&](size_t page) {
    const uint64_t frame = frames[page].number();
    any |= frame;
    runs += frame - page != distance ? 1U : 0U;
    distance = frame - page;
  });
  wide_ = any > std::numeric_limits<uint32_t>::max();
  runs_ = runs * (1 + WordsPerFrame()) < count * WordsPerFrame();
  words_.reserve(runs_ ? runs * (1 + WordsPerFrame()) : count * WordsPerFrame());
  if (every_page && !runs_ && !wide_) {  // the usual case: each page is recorded
    words_.resize(count);
    std::transform(frames.begin(), frames.end(), words_.begin(),
                   [](Pfn frame) { return static_cast<uint32_t>(frame.number()); });
    return;
  }
  distance = kFar;
  for_each_page([&](size_t page) {
    const uint64_t frame = frames[page].number();
    if (runs_ && frame - page == distance) return;
    distance = frame - page;
    if (runs_) words_.push_back(static_cast<uint32_t>(page));
    Add(frame);
  });
}

void PackedFrames::Add(uint64_t frame) {
  words_.push_back(static_cast<uint32_t>(frame));
  if (wide_) words_.push_back(static_cast<uint32_t>(frame >> 32U));
}

void PackedFrames::Unpack(BitmapView recorded, std::span<Pfn> frames) const { UnpackAs(recorded, frames); }

void PackedFrames::Unpack(BitmapView recorded, std::span<PageEntry> entries) const { UnpackAs(recorded, entries); }

template <class Number>
void PackedFrames::UnpackAs(BitmapView recorded, std::span<Number> frames) const {
  if (runs_) {
    UnpackRuns(recorded, frames);
  } else if (words_.size() == frames.size() && !wide_) {  // the usual case: each page is recorded
    std::transform(words_.begin(), words_.end(), frames.begin(), [](uint32_t frame) { return Number(frame); });
  } else {
    std::fill(frames.begin(), frames.end(), Number());
    size_t word = 0;
    recorded.ForEach([&](size_t page) {
      frames[page] = Number(FrameAt(word));
      word += WordsPerFrame();
    });
  }
}

template <class Number>
void PackedFrames::UnpackRuns(BitmapView recorded, std::span<Number> frames) const {
  std::fill_n(frames.begin(), words_.front(), Number());
  for (size_t word = 0; word < words_.size();) {
    const size_t first = words_[word];
    const uint64_t frame = FrameAt(word + 1);
    word += 1 + WordsPerFrame();
    const size_t end = word < words_.size() ? words_[word] : frames.size();
    for (size_t page = first; page < end; ++page) frames[page] = Number(frame + (page - first));
  }
  for (size_t w = 0; w < recorded.words().size(); ++w) {
    const size_t end = std::min<size_t>(64, frames.size() - w * 64);
    for (uint64_t rest = ~recorded.Word(w); rest != 0; rest &= rest - 1) {
      const auto bit = static_cast<size_t>(std::countr_zero(rest));
      if (bit >= end) break;
      frames[w * 64 + bit] = Number();
    }
  }
}

PackedWindow::PackedWindow(const WindowRecord& record, size_t pages_per_window, bool with_frames)
    : pages_(static_cast<uint32_t>(pages_per_window)), has_frames_(with_frames) {
  const WindowBitmap recorded = FindRecorded(record);
  if (with_frames) frames_ = PackedFrames(record.frames, recorded);
  PackHolders(record, recorded);
  if (record.extras.empty() && record.away.empty()) return;
  rest_ = std::make_unique<Rest>(Rest{record.extras, record.away});
}

WindowBitmap PackedWindow::FindRecorded(const WindowRecord& record) const {
  WindowBitmap recorded(pages_);
  if (has_frames_) {
    for (size_t page = 0; page < pages_; ++page) {
      recorded.Word(page / 64) |= uint64_t{record.frames[page] != Pfn::None()} << (page % 64);
    }
  } else {
    for (MemberIndex slot; slot < record.SlotsEnd(); ++slot) {
      for (size_t w = 0; w < Words(); ++w) recorded.Word(w) |= record.Held(slot).Word(w);
    }
  }
  return recorded;
}

void PackedWindow::PackHolders(const WindowRecord& record, BitmapView recorded) {
  std::vector<MemberIndex> whole;
  std::vector<MemberIndex> partial;
  whole.reserve(record.SlotsEnd().number());
  for (MemberIndex slot; slot < record.SlotsEnd(); ++slot) {
    const BitmapView held = record.Held(slot);
    if (!held.Any()) continue;
    (AreEqual(held, recorded) ? whole : partial).push_back(slot);
  }
  const bool all_recorded = recorded.Count() == pages_;
  recorded_words_ = static_cast<uint16_t>(all_recorded ? 0 : Words());
  whole_words_ = static_cast<uint16_t>(whole.empty() ? 0 : whole.back().number() / 64 + 1);
  bitmaps_.reserve(recorded_words_ + whole_words_ + partial.size() * Words());
  if (!all_recorded) bitmaps_.assign(recorded.words().begin(), recorded.words().end());
  bitmaps_.resize(bitmaps_.size() + whole_words_);
  const BitmapSpan whole_bits{std::span<uint64_t>(bitmaps_).subspan(recorded_words_)};
  for (const MemberIndex slot : whole) whole_bits.Set(slot.number());
  for (const MemberIndex slot : partial) {
    const std::span<const uint64_t> held = record.Held(slot).words();
    bitmaps_.insert(bitmaps_.end(), held.begin(), held.end());
  }
  partial_.assign(partial.begin(), partial.end());
}

template <class Number>
void PackedWindow::Unpack(std::span<Number> numbers) const {
  if (recorded_words_ != 0) {
    frames_.Unpack(Recorded(), numbers);
  } else {
    WindowBitmap recorded(pages_);
    Fill(recorded, pages_);
    frames_.Unpack(recorded, numbers);
  }
}

void PackedWindow::CopyFrames(std::span<Pfn> frames) const { Unpack(frames); }

void PackedWindow::CopyFramesAsEntries(std::span<PageEntry> entries) const { Unpack(entries); }

void PackedWindow::CopyRecorded(BitmapSpan recorded) const {
  if (recorded_words_ != 0) {
    std::copy_n(bitmaps_.begin(), recorded_words_, recorded.words().begin());
  } else {
    Fill(recorded, pages_);
  }
}

BitmapView PackedWindow::PartOf(size_t index) const {
  return BitmapView({bitmaps_.data() + recorded_words_ + whole_words_ + index * Words(), Words()});
}

BitmapView PackedWindow::Held(MemberIndex slot, BitmapView recorded) const {
  return HoldsAll(slot) ? recorded : HeldInPart(slot);
}

bool PackedWindow::HoldAlike(MemberIndex a, MemberIndex b) const {
  if (HoldsAll(a) || HoldsAll(b)) return HoldsAll(a) && HoldsAll(b);
  return AreEqual(HeldInPart(a), HeldInPart(b));
}

BitmapView PackedWindow::HeldInPart(MemberIndex slot) const {
  const auto found = std::lower_bound(partial_.begin(), partial_.end(), slot);
  if (found == partial_.end() || *found != slot) return {};
  return PartOf(static_cast<size_t>(found - partial_.begin()));
}

MemberIndex PackedWindow::SlotsEnd() const {
  const MemberIndex partial_end = partial_.empty() ? MemberIndex() : partial_.back().Next();
  return std::max(partial_end, MemberIndex(size_t{whole_words_} * 64));
}

std::span<const WindowRecord::Extra> PackedWindow::extras() const {
  return rest_ == nullptr ? std::span<const WindowRecord::Extra>() : rest_->extras;
}

std::span<const WindowRecord::Away> PackedWindow::away() const {
  return rest_ == nullptr ? std::span<const WindowRecord::Away>() : rest_->away;
}

bool PackedWindow::Concerns(MemberIndex slot) const {
  const auto has_extra = [slot](const WindowRecord::Extra& extra) { return extra.IsHeldBy(slot); };
  const auto is_away = [slot](const WindowRecord::Away& entry) { return entry.slot == slot; };
  return HoldsAll(slot) || std::binary_search(partial_.begin(), partial_.end(), slot) ||
         std::any_of(extras().begin(), extras().end(), has_extra) || std::any_of(away().begin(), away().end(), is_away);
}

WindowRecord PackedWindow::Open() const {
  WindowRecord record(pages_);
  if (has_frames_) {
    record.frames.resize(pages_);
    CopyFrames(record.frames);
  }
  WindowBitmap recorded(pages_);
  CopyRecorded(recorded);
  record.held.Reserve(SlotsEnd().number());
  for (MemberIndex slot; slot < SlotsEnd(); ++slot) {
    const std::span<const uint64_t> held = Held(slot, recorded).words();
    if (!held.empty()) std::copy(held.begin(), held.end(), record.Held(slot).words().begin());
  }
  if (rest_ != nullptr) {
    record.extras = rest_->extras;
    record.away = rest_->away;
  }
  return record;
}

uint64_t PackedWindow::HeapBytes() const {
  uint64_t bytes =
      frames_.HeapBytes() + bitmaps_.capacity() * sizeof(uint64_t) + partial_.capacity() * sizeof(MemberIndex);
  if (rest_ == nullptr) return bytes;
  bytes += sizeof(Rest) + rest_->extras.capacity() * sizeof(WindowRecord::Extra) +
           rest_->away.capacity() * sizeof(WindowRecord::Away);
  for (const WindowRecord::Extra& extra : rest_->extras) bytes += extra.holders.capacity() * sizeof(MemberIndex);
  return bytes;
}

}  // namespace cow::memory
