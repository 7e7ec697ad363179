#include "collectors/memory/ledger/frame_facts.h"

#include <algorithm>
#include <utility>

#include "collectors/procfs/kpage.h"

namespace cow::memory {
namespace {

constexpr uint64_t kCompound = procfs::kFrameCompoundHead | procfs::kFrameCompoundTail;

}  // namespace

void FrameFacts::Clear() {
  frames_.clear();
  flags_.clear();
  counts_.clear();
}

void FrameFacts::Assign(std::vector<Pfn> frames, std::vector<uint64_t> flags, std::vector<uint64_t> counts,
                        const FrameWords& words, bool may_be_merged) {
  frames_ = std::move(frames);
  flags_ = std::move(flags);
  counts_ = std::move(counts);
  words_ = words;
  may_be_merged_ = may_be_merged;
}

void FrameFacts::Append(std::span<const Pfn> frames, std::span<const uint64_t> flags, std::span<const uint64_t> counts,
                        const FrameWords& words, bool may_be_merged) {
  Extend(flags_, flags, frames_.size());
  Extend(counts_, counts, frames_.size());
  frames_.insert(frames_.end(), frames.begin(), frames.end());
  words_ = words;
  may_be_merged_ = may_be_merged;
}

// `known`: the number of frames so far. `words` has one word for each, or none at all.
void FrameFacts::Extend(std::vector<uint64_t>& words, std::span<const uint64_t> more, size_t known) {
  if (words.size() == known && !more.empty()) {
    words.insert(words.end(), more.begin(), more.end());
  } else {
    words.clear();
  }
}

std::optional<uint64_t> FrameFacts::MapCount(Pfn frame) const {
  if (IsCountedAsFolio(frame)) return std::nullopt;
  return Find(frame, counts_);
}

bool FrameFacts::IsCountedAsFolio(Pfn frame) const {
  return !words_.page_counts && (Flags(frame).value_or(0) & kCompound) != 0;
}

bool FrameFacts::IsKsm(Pfn frame) const {
  const uint64_t flags = Flags(frame).value_or(0);
  if (words_.merged_flag) return (flags & procfs::kFrameKsm) != 0;
  // KSM pages are small and never exclusive.
  return may_be_merged_ && (flags & (procfs::kFrameAnon | kCompound)) == procfs::kFrameAnon &&
         !IsExclusive(frame).value_or(false);
}

std::optional<bool> FrameFacts::IsOfLargeFolio(Pfn frame) const {
  const std::optional<uint64_t> flags = Flags(frame);
  if (!flags) return std::nullopt;
  return (*flags & (kCompound | procfs::kFrameThp)) != 0 && (*flags & procfs::kFrameHugetlb) == 0;
}

bool FrameFacts::IsOfHugePage(Pfn middle) const {
  const uint64_t flags = Flags(middle).value_or(0);
  return (flags & procfs::kFrameCompoundTail) != 0 && (flags & procfs::kFrameHugetlb) == 0;
}

std::optional<bool> FrameFacts::IsExclusive(Pfn frame) const {
  const std::optional<uint64_t> flags = Flags(frame);
  if (words_.marks == ExclusiveMarks::kNone || !flags || (*flags & procfs::kFrameAnon) == 0) return std::nullopt;
  if (words_.marks == ExclusiveMarks::kOfSmallFolios && (*flags & kCompound) != 0) return std::nullopt;
  return (*flags & procfs::kFrameAnonExclusive) != 0;
}

std::optional<uint64_t> FrameFacts::Find(Pfn frame, const std::vector<uint64_t>& words) const {
  if (words.empty()) return std::nullopt;
  const auto found = std::lower_bound(frames_.begin(), frames_.end(), frame);
  if (found == frames_.end() || *found != frame) return std::nullopt;
  return words[static_cast<size_t>(found - frames_.begin())];
}

}  // namespace cow::memory
