#include "collectors/memory/family/relatives.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "collectors/memory/ledger/page.h"
#include "collectors/procfs/ksm.h"
#include "collectors/procfs/same_memory.h"
#include "collectors/procfs/stat.h"

namespace cow::memory {
namespace {

// Most windows compared to find out whether two processes are related.
constexpr size_t kProbeWindows = 256;
// Most of its list of mappings that is read.
constexpr procfs::MapsLimits kProbeLimits{uint64_t{2} << 20, 16384};

bool LayoutsAreRandom(const procfs::Root& root) {
  const auto value = procfs::ReadTextFile(root, root.ProcPath("sys/kernel/randomize_va_space"));
  return value && !value->starts_with('0');
}

}  // namespace

Relatives::Relatives(procfs::Root root, procfs::PageGeometry geometry, Pfn zero_frame, LayoutSource layouts,
                     FrameReader& frames, ScanCounters& counters)
    : root_(std::move(root)),
      geometry_(geometry),
      pages_(geometry.PagesPerWindow()),
      zero_frame_(zero_frame),
      layouts_(layouts),
      frames_(frames),
      counters_(counters),
      random_layouts_(LayoutsAreRandom(root_)) {}

// Fails if the process has called exec since the table read it: the layout is another one then.
Result<procfs::Pagemap> Relatives::OpenPagemap(const Process& process) {
  auto pagemap = procfs::Pagemap::Open(root_, process.memory);
  if (!pagemap) return pagemap;
  const auto stat = procfs::ReadStat(root_, process.memory);
  const std::optional<LayoutKey> layout = stat ? ReadLayout(root_, *stat, process.memory, layouts_) : std::nullopt;
  if (layout && process.layout && layout != process.layout) {
    return tl::unexpected(Error{ErrorKind::kGone, pagemap->path(), 0, "the address space is another one by now"});
  }
  return pagemap;
}

std::optional<std::strong_ordering> Relatives::CompareMemory(const Process& a, const Process& b) {
  return procfs::CompareMemory(root_, a.memory, b.memory);
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

template <class Visit>
bool Relatives::ForEachWindow(const procfs::Pagemap& a, const procfs::Pagemap& b, procfs::MapsReader& areas,
                              Visit&& visit) {
  std::vector<PageEntry> left(pages_);
  std::vector<PageEntry> right(pages_);
  size_t compared = 0;
  uint64_t since_rest = 0;
  for (procfs::Vma area; areas.Next(area).value_or(false);) {
    if (area.shared || area.executable || !area.readable) continue;
    const PageNumber last = geometry_.PageOf(area.end);
    for (PageNumber first = geometry_.PageOf(area.start); first < last;) {
      const PageNumber end = std::min(last, first.Window(pages_).EndPage(pages_));
      const size_t pages = end - first;
      since_rest += pages;
      if (since_rest > pages_) {
        SleepBriefly(counters_);
        since_rest = pages;
      }
      const std::span<PageEntry> of_a(left.data(), pages);
      const std::span<PageEntry> of_b(right.data(), pages);
      if (!a.Read(first, of_a) || !b.Read(first, of_b)) return false;
      counters_.pagemap_pages += 2 * pages;
      counters_.pagemap_reads += 2;
      if (visit(std::span<const PageEntry>(of_a), std::span<const PageEntry>(of_b))) return true;
      if (++compared == kProbeWindows) return false;
      first = end;
    }
  }
  return false;
}

// Pages merged by KSM do not prove kinship. If kpageflags has no flag for them, pages that may be merged are ignored in
// processes that may have some.
void Relatives::ExpectMerged(const Process& a, const Process& b) {
  const auto may_have_merged = [this](const Process& process) {
    const auto pages = procfs::ReadKsmMergingPages(root_, process.memory);
    return !pages || *pages > 0;
  };
  frames_.SetMayBeMerged(procfs::KsmHasMerged(root_) && (may_have_merged(a) || may_have_merged(b)));
}

bool Relatives::AnyInBoth(std::vector<Pfn>& frames) {
  if (frames.empty()) return false;
  FrameFacts facts;
  frames_.Read(frames, false, facts);
  return std::any_of(frames.begin(), frames.end(), [&facts](Pfn frame) { return !facts.IsKsm(frame); });
}

// Relocated data of the program and its libraries comes first in the address space and is never written again, so a few
// windows are enough to recognise a relative.
bool Relatives::ShareFrame(const Process& a, const Process& b) {
  if (zero_frame_ == Pfn::None()) return false;
  const auto left = procfs::Pagemap::Open(root_, a.memory);
  const auto right = procfs::Pagemap::Open(root_, b.memory);
  auto areas = procfs::MapsReader::Open(root_, a.memory, kProbeLimits);
  if (!left || !right || !areas) return false;
  ExpectMerged(a, b);
  return ForEachWindow(*left, *right, *areas, [this](std::span<const PageEntry> of_a, std::span<const PageEntry> of_b) {
    std::vector<Pfn> common;
    for (size_t i = 0; i < of_a.size(); ++i) {
      const Pfn frame = AnonFrame(of_a[i], zero_frame_);
      const bool alike = frame != Pfn::None() && frame == AnonFrame(of_b[i], zero_frame_);
      if (alike && !of_a[i].IsMappedOnce() && !of_b[i].IsMappedOnce()) common.push_back(frame);
    }
    return AnyInBoth(common);
  });
}

// A page that is mapped exactly once and appears in both proves one address space. Two different pages prove two; a
// single difference does not, because the page may have been replaced between the two reads. Bit 56 of a huge page
// proves nothing.
std::optional<bool> Relatives::SameMemory(const Process& a, const Process& b) {
  if (zero_frame_ == Pfn::None()) return std::nullopt;
  const auto left = procfs::Pagemap::Open(root_, a.memory);
  const auto right = procfs::Pagemap::Open(root_, b.memory);
  auto areas = procfs::MapsReader::Open(root_, a.memory, kProbeLimits);
  if (!left || !right || !areas) return std::nullopt;
  constexpr size_t kProof = 2;
  bool once_in_both = false;
  size_t equal = 0;
  size_t different = 0;
  ForEachWindow(*left, *right, *areas, [&](std::span<const PageEntry> of_a, std::span<const PageEntry> of_b) {
    if (of_a.size() == pages_ && IsHugeRun(of_a)) return false;
    for (size_t i = 0; i < of_a.size() && !once_in_both; ++i) {
      const Pfn frame = AnonFrame(of_a[i], zero_frame_);
      const Pfn other = AnonFrame(of_b[i], zero_frame_);
      if (frame == Pfn::None() || other == Pfn::None()) continue;
      ++(frame == other ? equal : different);
      once_in_both = frame == other && of_a[i].IsMappedOnce() && of_b[i].IsMappedOnce();
    }
    return once_in_both || different >= kProof;
  });
  if (once_in_both) return true;
  return equal + different == 0 ? std::nullopt : std::optional(false);
}

// After an exec no anonymous page has the same frame at the same address.
std::optional<bool> Relatives::HasPagemap(const Process& process, const procfs::Pagemap& pagemap) {
  if (zero_frame_ == Pfn::None()) return std::nullopt;
  const auto now = procfs::Pagemap::Open(root_, process.memory);
  auto areas = procfs::MapsReader::Open(root_, process.memory, kProbeLimits);
  if (!now || !areas) return std::nullopt;
  ExpectMerged(process, process);
  return ForEachWindow(pagemap, *now, *areas, [this](std::span<const PageEntry> of_a, std::span<const PageEntry> of_b) {
    std::vector<Pfn> common;
    for (size_t i = 0; i < of_a.size(); ++i) {
      const Pfn frame = AnonFrame(of_a[i], zero_frame_);
      if (frame != Pfn::None() && frame == AnonFrame(of_b[i], zero_frame_)) common.push_back(frame);
    }
    return AnyInBoth(common);
  });
}

}  // namespace cow::memory
