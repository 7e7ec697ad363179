#include "collectors/memory/relatives.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>
#include <vector>

#include "collectors/memory/page.h"
#include "collectors/procfs/ksm.h"
#include "collectors/procfs/maps.h"
#include "collectors/procfs/same_memory.h"
#include "collectors/procfs/text.h"

namespace cow::memory {
namespace {

// Windows compared at most to find out whether two processes are related.
constexpr size_t kProbeWindows = 256;

bool LayoutsAreRandom(const procfs::Root& root) {
  const auto value = procfs::ReadTextFile(root, root.ProcPath("sys/kernel/randomize_va_space"));
  return value && !value->starts_with('0');
}

}  // namespace

Relatives::Relatives(procfs::Root root, procfs::PageGeometry geometry, uint64_t zero_frame, FrameReader& frames,
                     ScanCounters& counters)
    : root_(std::move(root)),
      geometry_(geometry),
      pages_(geometry.PagesPerWindow()),
      zero_frame_(zero_frame),
      frames_(frames),
      counters_(counters),
      random_layouts_(LayoutsAreRandom(root_)) {}

procfs::Result<procfs::Pagemap> Relatives::OpenPagemap(const Process& process) {
  return procfs::Pagemap::Open(root_, process.memory);
}

std::optional<bool> Relatives::SameMemory(const Process& a, const Process& b) {
  const auto answer = procfs::SameMemory(root_, a.memory, b.memory);
  return answer ? answer : SameStack(a, b);
}

// By the pages below the end of the stack, which are in use, small and never another process' but by fork: one that is
// mapped exactly once, and yet is in both, is in one address space. Where kcmp is denied.
std::optional<bool> Relatives::SameStack(const Process& a, const Process& b) {
  if (zero_frame_ == kNoFrame || !a.layout) return std::nullopt;
  const auto left = procfs::Pagemap::Open(root_, a.memory);
  const auto right = procfs::Pagemap::Open(root_, b.memory);
  if (!left || !right) return std::nullopt;
  constexpr size_t kPages = 4;
  std::array<uint64_t, kPages> of_a{};
  std::array<uint64_t, kPages> of_b{};
  const uint64_t first = geometry_.PageOf(a.layout->start_stack) - (kPages - 1);
  if (!left->Read(first, of_a) || !right->Read(first, of_b)) return std::nullopt;
  counters_.pagemap_pages += 2 * kPages;
  counters_.pagemap_reads += 2;
  for (size_t i = 0; i < kPages; ++i) {
    const uint64_t frame = AnonFrame(of_a[i], zero_frame_);
    if (frame == kNoFrame) continue;
    return IsMappedOnce(of_a[i]) && frame == AnonFrame(of_b[i], zero_frame_);
  }
  return std::nullopt;
}

bool Relatives::LayoutIsRandom(const Process& process) {
  constexpr uint32_t kAddrNoRandomize = 0x0040000;
  if (!random_layouts_) return false;
  const auto text = procfs::ReadTextFile(root_, root_.ProcPath(process.memory, "personality"));
  uint32_t personality = 0;
  if (!text || std::from_chars(text->data(), text->data() + text->size(), personality, 16).ec != std::errc())
    return false;
  return (personality & kAddrNoRandomize) == 0;
}

bool Relatives::FramesMatch(const procfs::Pagemap& a, const procfs::Pagemap& b, uint64_t first, size_t pages) {
  std::vector<uint64_t> left(pages);
  std::vector<uint64_t> right(pages);
  if (!a.Read(first, left) || !b.Read(first, right)) return false;
  counters_.pagemap_pages += 2 * pages;
  counters_.pagemap_reads += 2;
  std::vector<uint64_t> common;
  for (size_t i = 0; i < pages; ++i) {
    const uint64_t frame = AnonFrame(left[i], zero_frame_);
    const bool alike = frame != kNoFrame && frame == AnonFrame(right[i], zero_frame_);
    if (alike && !IsMappedOnce(left[i]) && !IsMappedOnce(right[i])) common.push_back(frame);
  }
  if (common.empty()) return false;
  FrameFacts facts;
  frames_.Read(common, false, facts);
  return std::any_of(common.begin(), common.end(), [&facts](uint64_t frame) { return !facts.IsKsm(frame); });
}

bool Relatives::ShareFrame(const Process& a, const Process& b) {
  if (zero_frame_ == kNoFrame) return false;
  const auto left = procfs::Pagemap::Open(root_, a.memory);
  const auto right = procfs::Pagemap::Open(root_, b.memory);
  auto vmas = procfs::ReadMaps(root_, a.memory);
  if (!left || !right || !vmas) return false;
  // Pages that KSM merged prove no kinship. Where no flag tells them, processes that may have some are not compared by
  // pages that may be merged.
  const auto may_have_merged = [this](const Process& process) {
    const auto pages = procfs::ReadKsmMergingPages(root_, process.memory);
    return !pages || *pages > 0;
  };
  frames_.SetMayBeMerged(procfs::KsmHasMerged(root_) && (may_have_merged(a) || may_have_merged(b)));
  // Relocated data of the program and its libraries comes first in the address space, and is never written again: a
  // relative is recognised within a few windows.
  size_t compared = 0;
  uint64_t since_rest = 0;
  for (const procfs::Vma& vma : *vmas) {
    if (vma.shared || vma.executable || !vma.readable) continue;
    const uint64_t last = geometry_.PageOf(vma.end);
    for (uint64_t first = geometry_.PageOf(vma.start); first < last;) {
      const uint64_t end = std::min(last, (first / pages_ + 1) * pages_);
      since_rest += end - first;
      if (since_rest > pages_) {
        SleepBriefly(counters_);
        since_rest = end - first;
      }
      if (FramesMatch(*left, *right, first, end - first)) return true;
      if (++compared == kProbeWindows) return false;
      first = end;
    }
  }
  return false;
}

}  // namespace cow::memory
