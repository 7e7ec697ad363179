#include "collectors/memory/ledger/packed_frames.h"

#include <algorithm>
#include <bit>
#include <limits>

namespace cow::memory {

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

}  // namespace cow::memory
