#include "collectors/memory/packed_frames.h"

#include <algorithm>
#include <limits>

namespace cow::memory {

PackedFrames::PackedFrames(std::span<const uint64_t> frames, std::span<const uint64_t> recorded) {
  size_t count = 0;
  std::vector<uint32_t> run_starts;
  uint64_t distance = 0;  // of a run's frames from their pages, modulo 2^64
  ForEachBit(recorded, [&](size_t page) {
    wide_ = wide_ || frames[page] > std::numeric_limits<uint32_t>::max();
    if (count++ == 0 || frames[page] - page != distance) run_starts.push_back(static_cast<uint32_t>(page));
    distance = frames[page] - page;
  });
  runs_ = run_starts.size() * (1 + WordsPerFrame()) < count * WordsPerFrame();
  if (runs_) {
    words_.reserve(run_starts.size() * (1 + WordsPerFrame()));
    for (const uint32_t page : run_starts) {
      words_.push_back(page);
      Add(frames[page]);
    }
  } else {
    words_.reserve(count * WordsPerFrame());
    ForEachBit(recorded, [&](size_t page) { Add(frames[page]); });
  }
}

void PackedFrames::Add(uint64_t frame) {
  words_.push_back(static_cast<uint32_t>(frame));
  if (wide_) words_.push_back(static_cast<uint32_t>(frame >> 32U));
}

void PackedFrames::Unpack(std::span<const uint64_t> recorded, std::span<uint64_t> frames) const {
  if (runs_) {
    UnpackRuns(recorded, frames);
  } else if (words_.size() == frames.size() && !wide_) {  // the usual case: each page is recorded
    std::copy(words_.begin(), words_.end(), frames.begin());
  } else {
    std::fill(frames.begin(), frames.end(), kNoFrame);
    size_t word = 0;
    ForEachBit(recorded, [&](size_t page) {
      frames[page] = FrameAt(word);
      word += WordsPerFrame();
    });
  }
}

void PackedFrames::UnpackRuns(std::span<const uint64_t> recorded, std::span<uint64_t> frames) const {
  std::fill_n(frames.begin(), words_.front(), kNoFrame);
  for (size_t word = 0; word < words_.size();) {
    const size_t first = words_[word];
    const uint64_t frame = FrameAt(word + 1);
    word += 1 + WordsPerFrame();
    const size_t end = word < words_.size() ? words_[word] : frames.size();
    for (size_t page = first; page < end; ++page) frames[page] = frame + (page - first);
  }
  for (size_t w = 0; w < recorded.size(); ++w) {
    const size_t end = std::min<size_t>(64, frames.size() - w * 64);
    for (uint64_t rest = ~recorded[w]; rest != 0; rest &= rest - 1) {
      const auto bit = static_cast<size_t>(std::countr_zero(rest));
      if (bit >= end) break;
      frames[w * 64 + bit] = kNoFrame;
    }
  }
}

}  // namespace cow::memory
