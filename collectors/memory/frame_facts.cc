#include "collectors/memory/frame_facts.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "collectors/memory/page.h"
#include "collectors/memory/sort_unique.h"
#include "collectors/procfs/system.h"

namespace cow::memory {
namespace {

constexpr uint64_t kCompound = procfs::kFrameCompoundHead | procfs::kFrameCompoundTail;

}  // namespace

void FrameFacts::Clear() {
  frames_.clear();
  flags_.clear();
  counts_.clear();
}

void FrameFacts::Assign(std::vector<uint64_t> frames, std::vector<uint64_t> flags, std::vector<uint64_t> counts,
                        const FrameWords& words, bool may_be_merged) {
  frames_ = std::move(frames);
  flags_ = std::move(flags);
  counts_ = std::move(counts);
  words_ = words;
  may_be_merged_ = may_be_merged;
}

void FrameFacts::Append(std::span<const uint64_t> frames, std::span<const uint64_t> flags,
                        std::span<const uint64_t> counts, const FrameWords& words, bool may_be_merged) {
  Extend(flags_, flags, frames_.size());
  Extend(counts_, counts, frames_.size());
  frames_.insert(frames_.end(), frames.begin(), frames.end());
  words_ = words;
  may_be_merged_ = may_be_merged;
}

// `known`: how many frames there are so far, with a word each or none at all.
void FrameFacts::Extend(std::vector<uint64_t>& words, std::span<const uint64_t> more, size_t known) {
  if (words.size() == known && !more.empty()) {
    words.insert(words.end(), more.begin(), more.end());
  } else {
    words.clear();
  }
}

std::optional<uint64_t> FrameFacts::MapCount(uint64_t frame) const {
  if (IsCountedAsFolio(frame)) return std::nullopt;
  return Find(frame, counts_);
}

bool FrameFacts::IsCountedAsFolio(uint64_t frame) const {
  return !words_.page_counts && (Flags(frame).value_or(0) & kCompound) != 0;
}

bool FrameFacts::IsKsm(uint64_t frame) const {
  const uint64_t flags = Flags(frame).value_or(0);
  if (words_.merged_flag) return (flags & procfs::kFrameKsm) != 0;
  // KSM's pages are small, and never exclusive.
  return may_be_merged_ && (flags & (procfs::kFrameAnon | kCompound)) == procfs::kFrameAnon &&
         !IsExclusive(frame).value_or(false);
}

std::optional<bool> FrameFacts::IsOfLargeFolio(uint64_t frame) const {
  const std::optional<uint64_t> flags = Flags(frame);
  if (!flags) return std::nullopt;
  return (*flags & (kCompound | procfs::kFrameThp)) != 0 && (*flags & procfs::kFrameHugetlb) == 0;
}

bool FrameFacts::IsOfHugePage(uint64_t middle) const {
  const uint64_t flags = Flags(middle).value_or(0);
  return (flags & procfs::kFrameCompoundTail) != 0 && (flags & procfs::kFrameHugetlb) == 0;
}

std::optional<bool> FrameFacts::IsExclusive(uint64_t frame) const {
  const std::optional<uint64_t> flags = Flags(frame);
  if (words_.marks == ExclusiveMarks::kNone || !flags || (*flags & procfs::kFrameAnon) == 0) return std::nullopt;
  if (words_.marks == ExclusiveMarks::kOfSmallFolios && (*flags & kCompound) != 0) return std::nullopt;
  return (*flags & procfs::kFrameAnonExclusive) != 0;
}

std::optional<uint64_t> FrameFacts::Find(uint64_t frame, const std::vector<uint64_t>& words) const {
  if (words.empty()) return std::nullopt;
  const auto found = std::lower_bound(frames_.begin(), frames_.end(), frame);
  if (found == frames_.end() || *found != frame) return std::nullopt;
  return words[static_cast<size_t>(found - frames_.begin())];
}

FrameReader::FrameReader(const procfs::Root& root, const FrameWords& words, size_t pages_per_window)
    : words_(words), pages_per_window_(pages_per_window) {
  if (auto flags = procfs::KpageFile::OpenFlags(root)) flags_ = std::move(*flags);
  if (auto counts = procfs::KpageFile::OpenCounts(root)) counts_ = std::move(*counts);
}

uint64_t FrameReader::SearchZeroFrame(const procfs::Root& root, size_t page_bytes) {
  constexpr uint64_t kLowFrames = 1 << 20;
  for (const procfs::PhysicalRange& range : procfs::ReadKernelImage(root)) {
    const uint64_t frame = SearchZeroFrameIn(range.first / page_bytes, range.last / page_bytes + 1);
    if (frame != kNoFrame) return frame;
  }
  return SearchZeroFrameIn(1, kLowFrames);
}

uint64_t FrameReader::SearchZeroFrameIn(uint64_t first, uint64_t end) const {
  constexpr uint64_t kStep = 512;
  if (!flags_) return kNoFrame;
  std::vector<uint64_t> frames(kStep);
  std::vector<uint64_t> words(kStep);
  uint64_t reads = 0;  // no part of scanning
  for (; first < end; first += kStep) {
    std::iota(frames.begin(), frames.end(), first);
    if (!flags_->Read(frames, words, reads)) return kNoFrame;
    for (size_t i = 0; i < words.size(); ++i) {
      if ((words[i] & procfs::kFrameZeroPage) != 0 && (words[i] & (kCompound | procfs::kFrameThp)) == 0)
        return frames[i];
    }
  }
  return kNoFrame;
}

void FrameReader::Read(std::vector<uint64_t>& frames, bool want_counts, FrameFacts& facts) {
  SortUnique(frames);
  std::vector<uint64_t> flags = ReadFlags(frames);
  std::vector<uint64_t> counts;
  if (want_counts) counts = ReadCounts(frames);
  facts.Assign(frames, std::move(flags), std::move(counts), words_, may_be_merged_);
}

void FrameReader::ReadMore(std::span<const uint64_t> frames, FrameFacts& facts) {
  facts.Append(frames, ReadFlags(frames), ReadCounts(frames), words_, may_be_merged_);
}

std::vector<uint64_t> FrameReader::ReadFlags(std::span<const uint64_t> frames) {
  if (!flags_) return {};
  std::vector<uint64_t> flags(frames.size());
  if (!flags_->Read(frames, flags, reads_)) return {};
  frames_read_ += flags.size();
  if (words_.marks == ExclusiveMarks::kOfThePage) AddMarksOfFirstPages(frames, flags);
  return flags;
}

std::vector<uint64_t> FrameReader::ReadCounts(std::span<const uint64_t> frames) {
  if (!counts_) return {};
  std::vector<uint64_t> counts(frames.size());
  if (!counts_->Read(frames, counts, reads_)) return {};
  frames_read_ += counts.size();
  return counts;
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
    auto head = static_cast<size_t>(frames[i] - first);
    while (head > 0 && (words[head] & procfs::kFrameCompoundHead) == 0) --head;
    flags[i] |= words[head] & procfs::kFrameAnonExclusive;
  }
}

}  // namespace cow::memory
