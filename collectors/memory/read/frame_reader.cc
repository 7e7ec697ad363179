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

FrameReader::FrameReader(const procfs::Root& root, const FrameWords& words, size_t pages_per_window,
                         ScanCounters& counters)
    : words_(words), pages_per_window_(pages_per_window), counters_(counters) {
  if (auto flags = procfs::KpageFile::OpenFlags(root)) flags_ = std::move(*flags);
  if (auto counts = procfs::KpageFile::OpenCounts(root)) counts_ = std::move(*counts);
}

Pfn FrameReader::SearchZeroFrame(const procfs::Root& root, size_t page_bytes) {
  constexpr Pfn kLowFrames(1 << 20);
  for (const procfs::PhysicalRange& range : procfs::ReadKernelImage(root)) {
    const Pfn frame = SearchZeroFrameIn(Pfn(range.first / page_bytes), Pfn(range.last / page_bytes + 1));
    if (frame != Pfn::None()) return frame;
  }
  return SearchZeroFrameIn(Pfn(1), kLowFrames);
}

Pfn FrameReader::SearchZeroFrameIn(Pfn first, Pfn end) const {
  constexpr uint64_t kStep = 512;
  if (!flags_) return Pfn::None();
  std::vector<Pfn> frames(kStep);
  std::vector<uint64_t> words(kStep);
  uint64_t reads = 0;  // not counted as scanning
  for (; first < end; first = first + kStep) {
    std::iota(frames.begin(), frames.end(), first);
    if (!flags_->Read(frames, words, reads)) return Pfn::None();
    for (size_t i = 0; i < words.size(); ++i) {
      if ((words[i] & procfs::kFrameZeroPage) != 0 && (words[i] & (kCompound | procfs::kFrameThp)) == 0)
        return frames[i];
    }
  }
  return Pfn::None();
}

void FrameReader::Read(std::vector<Pfn>& frames, bool want_counts, FrameFacts& facts) {
  SortUnique(frames);
  std::vector<uint64_t> flags = ReadFlags(frames);
  std::vector<uint64_t> counts;
  if (want_counts) counts = ReadCounts(frames);
  facts.Assign(frames, std::move(flags), std::move(counts), words_, may_be_merged_);
}

void FrameReader::ReadMore(std::span<const Pfn> frames, FrameFacts& facts) {
  facts.Append(frames, ReadFlags(frames), ReadCounts(frames), words_, may_be_merged_);
}

std::vector<uint64_t> FrameReader::ReadFlags(std::span<const Pfn> frames) {
  if (!flags_) return {};
  std::vector<uint64_t> flags(frames.size());
  if (!flags_->Read(frames, flags, counters_.frame_reads)) return {};
  counters_.frame_words += flags.size();
  if (words_.marks == ExclusiveMarks::kOfThePage) AddMarksOfFirstPages(frames, flags);
  return flags;
}

std::vector<uint64_t> FrameReader::ReadCounts(std::span<const Pfn> frames) {
  if (!counts_) return {};
  std::vector<uint64_t> counts(frames.size());
  if (!counts_->Read(frames, counts, counters_.frame_reads)) return {};
  counters_.frame_words += counts.size();
  return counts;
}

void FrameReader::AddMarksOfFirstPages(std::span<const Pfn> frames, std::span<uint64_t> flags) {
  constexpr uint64_t kPart = procfs::kFrameAnon | procfs::kFrameThp | procfs::kFrameCompoundTail;
  std::vector<Pfn> block;  // the frames around the last one read
  std::vector<uint64_t> words(pages_per_window_);
  for (size_t i = 0; i < flags.size(); ++i) {
    if ((flags[i] & kPart) != kPart || (flags[i] & procfs::kFrameAnonExclusive) != 0) continue;
    const Pfn first = frames[i].FirstOfRun(pages_per_window_);
    if (block.empty() || block.front() != first) {
      block.resize(pages_per_window_);
      std::iota(block.begin(), block.end(), first);
      if (!flags_->Read(block, words, counters_.frame_reads)) return;
      counters_.frame_words += words.size();
    }
    // The nearest preceding head page is its own.
    auto head = static_cast<size_t>(frames[i] - first);
    while (head > 0 && (words[head] & procfs::kFrameCompoundHead) == 0) --head;
    flags[i] |= words[head] & procfs::kFrameAnonExclusive;
  }
}

}  // namespace cow::memory
