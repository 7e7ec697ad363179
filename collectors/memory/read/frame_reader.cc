#include "collectors/memory/read/frame_reader.h"

#include <numeric>
#include <utility>

#include "collectors/base/sort_unique.h"
#include "collectors/memory/ledger/page.h"
#include "collectors/procfs/system.h"

namespace cow::memory {
namespace {

constexpr uint64_t kCompound = procfs::kFrameCompoundHead | procfs::kFrameCompoundTail;

}  // namespace

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
  uint64_t reads = 0;  // not counted as scanning
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
  std::vector<uint64_t> block;  // the frames around the last one read
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
    // The nearest preceding head page is its own.
    auto head = static_cast<size_t>(frames[i] - first);
    while (head > 0 && (words[head] & procfs::kFrameCompoundHead) == 0) --head;
    flags[i] |= words[head] & procfs::kFrameAnonExclusive;
  }
}

}  // namespace cow::memory
