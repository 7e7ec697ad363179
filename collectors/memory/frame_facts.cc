#include "collectors/memory/frame_facts.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "collectors/memory/page.h"

namespace cow::memory {

void FrameFacts::Clear() {
  frames_.clear();
  flags_.clear();
  counts_.clear();
}

void FrameFacts::Assign(std::vector<uint64_t> frames, std::vector<uint64_t> flags, std::vector<uint64_t> counts,
                        bool marks_known) {
  marks_known_ = marks_known;
  frames_ = std::move(frames);
  flags_ = std::move(flags);
  counts_ = std::move(counts);
}

std::optional<bool> FrameFacts::IsExclusive(uint64_t frame) const {
  const std::optional<uint64_t> flags = Flags(frame);
  if (!marks_known_ || !flags || (*flags & procfs::kFrameAnon) == 0) return std::nullopt;
  return (*flags & procfs::kFrameAnonExclusive) != 0;
}

std::optional<uint64_t> FrameFacts::Find(uint64_t frame, const std::vector<uint64_t>& words) const {
  if (words.empty()) return std::nullopt;
  const auto found = std::lower_bound(frames_.begin(), frames_.end(), frame);
  if (found == frames_.end() || *found != frame) return std::nullopt;
  return words[static_cast<size_t>(found - frames_.begin())];
}

FrameReader::FrameReader(const procfs::Root& root, ExclusiveMarks marks, size_t pages_per_window)
    : marks_(marks), pages_per_window_(pages_per_window) {
  if (auto flags = procfs::KpageFile::OpenFlags(root)) flags_ = std::move(*flags);
  if (auto counts = procfs::KpageFile::OpenCounts(root)) counts_ = std::move(*counts);
}

uint64_t FrameReader::SearchZeroFrame() {
  constexpr uint64_t kSearched = 1 << 20;  // the zero page is part of the kernel's image or of early memory
  constexpr uint64_t kStep = 512;
  constexpr uint64_t kCompound = procfs::kFrameCompoundHead | procfs::kFrameCompoundTail | procfs::kFrameThp;
  if (!flags_) return kNoFrame;
  std::vector<uint64_t> frames(kStep);
  std::vector<uint64_t> words(kStep);
  uint64_t reads = 0;  // no part of scanning
  for (uint64_t first = 1; first < kSearched; first += kStep) {
    std::iota(frames.begin(), frames.end(), first);
    if (!flags_->Read(frames, words, reads)) return kNoFrame;
    for (size_t i = 0; i < words.size(); ++i) {
      if ((words[i] & procfs::kFrameZeroPage) != 0 && (words[i] & kCompound) == 0) return frames[i];
    }
  }
  return kNoFrame;
}

void FrameReader::Read(std::vector<uint64_t>& frames, bool want_counts, FrameFacts& facts) {
  std::sort(frames.begin(), frames.end());
  frames.erase(std::unique(frames.begin(), frames.end()), frames.end());
  std::vector<uint64_t> flags;
  std::vector<uint64_t> counts;
  if (flags_) {
    flags.resize(frames.size());
    if (!flags_->Read(frames, flags, reads_)) flags.clear();
    frames_read_ += flags.size();
    if (marks_ == ExclusiveMarks::kOfThePage) AddMarksOfFirstPages(frames, flags);
  }
  if (want_counts && counts_) {
    counts.resize(frames.size());
    if (!counts_->Read(frames, counts, reads_)) counts.clear();
    frames_read_ += counts.size();
  }
  facts.Assign(frames, std::move(flags), std::move(counts), marks_ != ExclusiveMarks::kNone);
}

void FrameReader::AddMarksOfFirstPages(std::span<const uint64_t> frames, std::span<uint64_t> flags) {
  constexpr uint64_t kPart = procfs::kFrameAnon | procfs::kFrameThp | procfs::kFrameCompoundTail;
  std::vector<uint64_t> block;  // frames around the last one looked at
  std::vector<uint64_t> words(pages_per_window_);
  for (size_t i = 0; i < flags.size(); ++i) {
    if ((flags[i] & kPart) != kPart || (flags[i] & procfs::kFrameAnonExclusive) != 0) continue;
    const uint64_t first = frames[i] / pages_per_window_ * pages_per_window_;
    if (block.empty() || block.front() != first) {
      block.resize(pages_per_window_);
      std::iota(block.begin(), block.end(), first);
      if (!flags_->Read(block, words, reads_)) return;
      frames_read_ += words.size();
    }
    // The nearest first page before a later page is its own.
    size_t head = static_cast<size_t>(frames[i] - first);
    while (head > 0 && (words[head] & procfs::kFrameCompoundHead) == 0) --head;
    flags[i] |= words[head] & procfs::kFrameAnonExclusive;
  }
}

}  // namespace cow::memory
