#include "collectors/memory/scanner.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <ctime>
#include <string>
#include <utility>

#include "collectors/procfs/ksm.h"
#include "collectors/procfs/maps.h"
#include "collectors/procfs/same_memory.h"
#include "collectors/procfs/smaps.h"

namespace cow::memory {
namespace {

using Clock = std::chrono::steady_clock;

// A process' rest between two windows. A writer that sleeps on the mmap lock needs that long to wake; a reader that
// comes back sooner takes the lock from it again.
constexpr auto kRest = std::chrono::microseconds(50);
// How often a window whose pages change under the reads is read as a whole before they are left for the next pass.
constexpr int kAttempts = 3;
// A process whose mappings are larger than its resident memory by this factor is asked for its populated ranges first:
// reading holes costs a tenth of reading pages, finding pages a third.
constexpr uint64_t kSparseFactor = 6;
constexpr uint64_t kSparseSlackPages = 16384;
// Slices of PAGEMAP_SCAN: how much of a dense mapping is walked under one hold of the lock, and of a sparse one, where
// the number of pages found bounds the hold.
constexpr uint64_t kDenseSliceBytes = uint64_t{32} << 20;
constexpr uint64_t kSparseSliceBytes = uint64_t{16} << 30;
constexpr uint64_t kSparseSlicePages = 4096;
// smaps_rollup holds the target's mmap lock while it walks: only processes up to this size are asked for it where no
// collector sets another limit.
constexpr uint64_t kMaxSmapsBytes = uint64_t{512} << 20;
// Windows compared at most to find out whether two processes are related.
constexpr size_t kProbeWindows = 256;

constexpr uint64_t kUninteresting = procfs::kPagemapSoftDirty | procfs::kPagemapUffdWriteProtected;

// By the kernel's version: root/sys/kernel/osrelease.
ExclusiveMarks MarksOfKernel(const procfs::Root& root) {
  const auto release = procfs::ReadTextFile(root, root.ProcPath("sys/kernel/osrelease"));
  if (!release) return ExclusiveMarks::kNone;
  std::pair<unsigned, unsigned> version;
  const char* end = release->data() + release->size();
  const auto [dot, error] = std::from_chars(release->data(), end, version.first);
  if (error != std::errc() || dot == end || *dot != '.') return ExclusiveMarks::kNone;
  if (std::from_chars(dot + 1, end, version.second).ec != std::errc()) return ExclusiveMarks::kNone;
  if (version < std::pair(5U, 19U)) return ExclusiveMarks::kNone;
  return version < std::pair(6U, 12U) ? ExclusiveMarks::kOfThePage : ExclusiveMarks::kOfTheFolio;
}

bool LayoutsAreRandom(const procfs::Root& root) {
  const auto value = procfs::ReadTextFile(root, root.ProcPath("sys/kernel/randomize_va_space"));
  return value && !value->starts_with('0');
}

void SleepBriefly() {
  // The default timer slack makes about 50 µs of it.
  const timespec time{0, 1000};
  nanosleep(&time, nullptr);
}

}  // namespace

MappingKind KindOfVerdict(const Family& family, const Verdict& verdict, const procfs::PageGeometry& geometry) {
  const Member* member = family.FindSlot(verdict.slot);
  if (member == nullptr) return MappingKind::kAnon;
  const Mapping* mapping = FindMapping(member->mappings, verdict.page * geometry.page_bytes);
  return mapping == nullptr ? MappingKind::kAnon : mapping->kind;
}

Scanner::Scanner(procfs::Root root, procfs::PageGeometry geometry)
    : root_(std::move(root)),
      geometry_(geometry),
      pages_(geometry.PagesPerWindow()),
      scan_(procfs::PagemapScan::Probe(root_, geometry)),
      random_layouts_(LayoutsAreRandom(root_)),
      devices_(root_),
      zero_window_(pages_, 0),
      again_(pages_, 0) {
  const ExclusiveMarks marks = MarksOfKernel(root_);
  frames_ = std::make_unique<FrameReader>(root_, marks, pages_);
  zero_frame_ = procfs::FindZeroPageFrame(root_, geometry_).value_or(kNoFrame);
  // Where the root is another system's tree, this process' own page tells nothing of it.
  const bool is_own_system = procfs::ReadLink(root_, root_.ProcPath("self/exe")).has_value();
  if (zero_frame_ == kNoFrame && !is_own_system) zero_frame_ = frames_->SearchZeroFrame(root_, geometry_.page_bytes);
  capabilities_.frames = zero_frame_ != kNoFrame;
  capabilities_.kpageflags = frames_->has_flags();
  capabilities_.kpagecount = frames_->has_counts();
  capabilities_.exclusive_marks = marks != ExclusiveMarks::kNone && capabilities_.kpageflags;
  capabilities_.pagemap_scan =
      scan_.Supports(procfs::kScanPresent | procfs::kScanSwapped | procfs::kScanZeroPage | procfs::kScanHuge);
  capabilities_.sees_every_process = procfs::SeesEveryProcess(root_);
}

ScanCounters Scanner::counters() const {
  ScanCounters counters = counters_;
  counters.frame_words = frames_->frames_read();
  counters.frame_reads = frames_->reads();
  return counters;
}

procfs::Result<procfs::Pagemap> Scanner::OpenPagemap(const Process& process) {
  return procfs::Pagemap::Open(root_, process.memory);
}

std::optional<bool> Scanner::SameMemory(const Process& a, const Process& b) {
  const auto answer = procfs::SameMemory(root_, a.memory, b.memory);
  return answer ? answer : SameStack(a, b);
}

// By the pages below the end of the stack, which are in use, small and never another process' but by fork: one that is
// mapped exactly once, and yet is in both, is in one address space. Where kcmp is denied.
std::optional<bool> Scanner::SameStack(const Process& a, const Process& b) {
  if (!capabilities_.frames || !a.layout) return std::nullopt;
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

bool Scanner::LayoutIsRandom(const Process& process) {
  constexpr uint32_t kAddrNoRandomize = 0x0040000;
  if (!random_layouts_) return false;
  const auto text = procfs::ReadTextFile(root_, root_.ProcPath(process.memory, "personality"));
  uint32_t personality = 0;
  if (!text || std::from_chars(text->data(), text->data() + text->size(), personality, 16).ec != std::errc())
    return false;
  return (personality & kAddrNoRandomize) == 0;
}

bool Scanner::FramesMatch(const procfs::Pagemap& a, const procfs::Pagemap& b, uint64_t first, size_t pages) {
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
  frames_->Read(common, false, facts);
  return std::any_of(common.begin(), common.end(), [&facts](uint64_t frame) { return !facts.IsKsm(frame); });
}

bool Scanner::ShareFrame(const Process& a, const Process& b) {
  if (!capabilities_.frames) return false;
  const auto left = procfs::Pagemap::Open(root_, a.memory);
  const auto right = procfs::Pagemap::Open(root_, b.memory);
  auto vmas = procfs::ReadMaps(root_, a.memory);
  if (!left || !right || !vmas) return false;
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
        SleepBriefly();
        ++counters_.rests;
        since_rest = end - first;
      }
      if (FramesMatch(*left, *right, first, end - first)) return true;
      if (++compared == kProbeWindows) return false;
      first = end;
    }
  }
  return false;
}

bool Scanner::MustWalk(const Family& family) const {
  return family.members.size() > 1 || !family.ended.empty() || !family.ledger.empty() ||
         !capabilities_.sees_every_process || !capabilities_.pagemap_scan || family.members.front()->shares_unseen;
}

void Scanner::Rest(Cursor& cursor, size_t pages) {
  if (cursor.pages_since_rest + pages <= pages_) {
    cursor.pages_since_rest += pages;
    return;
  }
  while (Clock::now() - cursor.read_end < kRest) {
    SleepBriefly();
    ++counters_.rests;
  }
  cursor.pages_since_rest = pages;
}

bool Scanner::ReadEntries(Cursor& cursor, uint64_t first, std::span<uint64_t> entries) {
  Rest(cursor, entries.size());
  const auto read = cursor.pagemap->Read(first, entries);
  cursor.read_end = Clock::now();
  ++counters_.pagemap_reads;
  if (!read) {
    cursor.member->unread = read.error();
    cursor.alive = false;
    return false;
  }
  counters_.pagemap_pages += entries.size();
  for (uint64_t& entry : entries) entry &= ~kUninteresting;
  return true;
}

void Scanner::ReadWindow(Cursor& cursor, uint64_t window, std::span<uint64_t> entries) {
  const uint64_t begin = window * pages_;
  const uint64_t end = begin + pages_;
  uint64_t first = end;
  uint64_t last = begin;
  for (size_t i = cursor.next_range; i < cursor.ranges.size() && cursor.ranges[i].first < end; ++i) {
    first = std::min(first, std::max(cursor.ranges[i].first, begin));
    last = std::max(last, std::min(cursor.ranges[i].last, end));
  }
  if (first >= last) return;
  std::fill(entries.begin(), entries.begin() + static_cast<std::ptrdiff_t>(first - begin), 0);
  std::fill(entries.begin() + static_cast<std::ptrdiff_t>(last - begin), entries.end(), 0);
  ReadEntries(cursor, first, entries.subspan(first - begin, last - first));
}

void Scanner::ScanMapping(Cursor& cursor, const procfs::Vma& vma, uint64_t any_of, uint64_t return_mask, bool sparse) {
  procfs::ScanRequest request{vma.start, vma.end, any_of, return_mask};
  if (sparse) request.max_pages = kSparseSlicePages;
  const uint64_t calls_before = counters_.scan_calls;
  auto slice_begin = Clock::now();
  const auto result = scan_.Scan(*cursor.pagemap, request, sparse ? kSparseSliceBytes : kDenseSliceBytes, regions_,
                                 counters_.scan_calls, [&] {
                                   // A slice of holes holds the lock for less than a rest is worth.
                                   const auto now = Clock::now();
                                   if (now - slice_begin > kRest / 5) {
                                     SleepBriefly();
                                     ++counters_.rests;
                                   }
                                   slice_begin = Clock::now();
                                 });
  if (counters_.scan_calls != calls_before) cursor.read_end = Clock::now();
  if (!result) {
    cursor.member->unread = result.error();
    cursor.alive = false;
  }
}

void Scanner::AddPopulatedRanges(const Mapping& mapping, Cursor& cursor, std::vector<PageRange>& ranges) {
  regions_.clear();
  constexpr uint64_t kPopulated = procfs::kScanPresent | procfs::kScanSwapped;
  ScanMapping(cursor, mapping.vma, kPopulated, kPopulated, true);
  for (const procfs::ScanRegion& region : regions_) {
    const PageRange range{geometry_.PageOf(region.start), geometry_.PageOf(region.end)};
    // Neighbours within one window are read in one go anyway.
    if (!ranges.empty() && range.first <= (ranges.back().last / pages_ + 1) * pages_) {
      ranges.back().last = range.last;
    } else {
      ranges.push_back(range);
    }
  }
}

std::vector<bool> Scanner::EmptyByScreening(const Member& member) const {
  std::vector<bool> empty(member.mappings.size(), false);
  const auto areas = procfs::ReadSmaps(root_, member.process->memory);
  if (!areas) return empty;
  for (const procfs::SmapsVma& area : *areas) {
    if (area.rss_bytes + area.swap_bytes != 0) continue;
    for (size_t i = 0; i < empty.size(); ++i) {
      const procfs::Vma& vma = member.mappings[i].vma;
      if (vma.start == area.vma.start && vma.end == area.vma.end) empty[i] = true;
    }
  }
  return empty;
}

std::vector<Scanner::PageRange> Scanner::RangesOf(Cursor& cursor, bool walk_all) {
  const Member& member = *cursor.member;
  std::vector<PageRange> ranges;
  uint64_t total = 0;
  for (const Mapping& mapping : member.mappings) {
    if (walk_all || !mapping.IsAnonymous()) total += mapping.vma.SizeBytes() / geometry_.page_bytes;
  }
  const uint64_t resident =
      geometry_.PageOf(member.process->ResidentBytes() + member.process->status.swap_bytes.value_or(0));
  const bool sparse = total > kSparseFactor * resident + kSparseSlackPages;
  std::vector<bool> empty(member.mappings.size(), false);
  if (sparse && !capabilities_.pagemap_scan) empty = EmptyByScreening(member);
  for (size_t i = 0; i < member.mappings.size() && cursor.alive; ++i) {
    const Mapping& mapping = member.mappings[i];
    if (empty[i] || (!walk_all && mapping.IsAnonymous())) continue;
    const PageRange range{geometry_.PageOf(mapping.vma.start), geometry_.PageOf(mapping.vma.end)};
    if (sparse && capabilities_.pagemap_scan && range.last - range.first > 4 * pages_) {
      AddPopulatedRanges(mapping, cursor, ranges);
    } else if (!ranges.empty() && ranges.back().last == range.first) {
      ranges.back().last = range.last;
    } else {
      ranges.push_back(range);
    }
  }
  return ranges;
}

void Scanner::ScanUnwalked(Cursor& cursor, bool count_sizes, Unwalked& unwalked) {
  const Member& member = *cursor.member;
  if (capabilities_.pagemap_scan) {
    constexpr uint64_t kWanted = procfs::kScanZeroPage | procfs::kScanHuge;
    const uint64_t resident = geometry_.PageOf(member.process->ResidentBytes());
    for (const Mapping& mapping : member.mappings) {
      if (!mapping.IsAnonymous() || mapping.hugetlb || !cursor.alive) continue;
      regions_.clear();
      const uint64_t pages = mapping.vma.SizeBytes() / geometry_.page_bytes;
      if (pages > kSparseFactor * resident + kSparseSlackPages) {
        ScanMapping(cursor, mapping.vma, procfs::kScanPresent, procfs::kScanPresent | kWanted, true);
      } else {
        ScanMapping(cursor, mapping.vma, kWanted, kWanted, false);
      }
      for (const procfs::ScanRegion& region : regions_) {
        const uint64_t bytes = region.end - region.start;
        const bool zero = (region.categories & procfs::kScanZeroPage) != 0;
        const bool huge = (region.categories & procfs::kScanHuge) != 0;
        if (zero) {
          (huge ? unwalked.zero_huge_bytes : unwalked.zero_base_bytes) += bytes;
        } else if (huge) {
          unwalked.huge_pmd_bytes += bytes;
        }
      }
    }
  }
  if (!count_sizes) return;
  const auto rest = [this](const std::optional<uint64_t>& all, uint64_t walked_pages) {
    const uint64_t walked = walked_pages * geometry_.page_bytes;
    return all.value_or(0) > walked ? *all - walked : 0;
  };
  const procfs::Status& status = member.process->status;
  unwalked.anon_bytes += rest(status.rss_anon_bytes, cursor.walked_anon_pages);
  unwalked.swap_bytes += rest(status.swap_bytes, cursor.walked_swap_pages);
  unwalked.hugetlb_bytes += rest(status.hugetlb_bytes, cursor.walked_hugetlb_pages);
}

bool Scanner::AnyShared(std::span<const uint64_t> entries) {
  std::vector<uint64_t> candidates;
  for (const uint64_t entry : entries) {
    const uint64_t frame = AnonFrame(entry, zero_frame_);
    if (frame != kNoFrame && !IsMappedOnce(entry)) candidates.push_back(frame);
  }
  if (candidates.empty()) return false;
  FrameFacts facts;
  frames_->Read(candidates, true, facts);
  return std::any_of(candidates.begin(), candidates.end(),
                     [&facts](uint64_t frame) { return !facts.IsKsm(frame) && facts.MapCount(frame).value_or(2) > 1; });
}

// One window of a process without relatives: if it is shared all the same, the process is walked from now on.
void Scanner::SampleLonely(Cursor& cursor) {
  const Mapping* sample = nullptr;
  for (const Mapping& mapping : cursor.member->mappings) {
    if (!mapping.IsAnonymous() || mapping.hugetlb || !mapping.vma.writable || mapping.kind == MappingKind::kStack)
      continue;
    if (sample == nullptr || mapping.kind == MappingKind::kHeap) sample = &mapping;
  }
  if (sample == nullptr) return;
  const uint64_t first = geometry_.PageOf(sample->vma.start);
  const uint64_t pages = std::min<uint64_t>(pages_, sample->vma.SizeBytes() / geometry_.page_bytes);
  const std::span<uint64_t> entries(again_.data(), pages);
  if (ReadEntries(cursor, first, entries) && AnyShared(entries)) cursor.member->shares_unseen = true;
}

bool Scanner::OpenMember(Member& member, std::vector<procfs::Pagemap>& borrowed, Cursor& cursor) {
  if (member.process->unread) {
    member.unread = member.process->unread;
    return false;
  }
  if (member.pagemap) {
    cursor.pagemap = &*member.pagemap;
  } else if (auto pagemap = procfs::Pagemap::Open(root_, member.process->memory)) {
    borrowed.push_back(std::move(*pagemap));
    cursor.pagemap = &borrowed.back();
  } else {
    member.unread = pagemap.error();
    return false;
  }
  auto vmas = procfs::ReadMaps(root_, member.process->memory);
  if (!vmas) {
    member.unread = vmas.error();
    return false;
  }
  member.mappings = ClassifyMappings(std::move(*vmas), member.process->memory, devices_);
  cursor.member = &member;
  return true;
}

std::vector<Scanner::Cursor> Scanner::Prepare(Family& family, std::vector<procfs::Pagemap>& borrowed) {
  std::vector<Cursor> cursors;
  cursors.reserve(family.members.size());
  borrowed.reserve(family.members.size());
  Mode best = Mode::kFull;
  if (!capabilities_.frames) {
    best = Mode::kNoFrames;
  } else if (!capabilities_.kpageflags || !capabilities_.kpagecount) {
    best = Mode::kNoKpage;
  }
  for (const auto& member : family.members) {
    member->unread.reset();
    member->mappings.clear();
    member->mode = best;
    Cursor cursor;
    if (OpenMember(*member, borrowed, cursor)) {
      cursors.push_back(std::move(cursor));
    } else if (member->unread->kind == procfs::ErrorKind::kDenied) {
      member->mode = Mode::kNone;
    }
  }
  return cursors;
}

void Scanner::BeginPass() {
  std::optional<procfs::Vmstat> now;
  if (const auto vmstat = procfs::ReadVmstat(root_)) now = *vmstat;
  host_changed_ = !now || now != vmstat_;
  vmstat_ = now;
  ksm_on_host_ = procfs::KsmHasMerged(root_);
}

bool Scanner::IsDue(const Family& family, std::chrono::milliseconds full_every) const {
  if (full_every.count() == 0 || host_changed_ || family.membership_changed || !family.full_due ||
      Clock::now() >= *family.full_due) {
    return true;
  }
  return std::any_of(family.members.begin(), family.members.end(), [this](const auto& member) {
    return member->unread || member->process->unread || member->first_look ||
           member->read_at != ChangeSignals::Of(*member->process) ||
           (ksm_on_host_ && procfs::ReadKsmMergingPages(root_, member->process->memory).value_or(0) > 0);
  });
}

// Whether pages of the family may have come back from swap since its last pass: the host's counter moved, and a member
// waited for a page or has another amount of memory in swap.
bool Scanner::SwappedIn(const Family& family) const {
  if (vmstat_ && family.host_swapped_in_pages == vmstat_->swapped_in_pages) return false;
  return std::any_of(family.members.begin(), family.members.end(), [](const auto& member) {
    const ChangeSignals now = ChangeSignals::Of(*member->process);
    return !member->read_at || member->read_at->major_faults != now.major_faults ||
           member->read_at->swap_bytes != now.swap_bytes;
  });
}

// The next time comes after half to all of `full_every`, so that families read at one time do not stay together.
void Scanner::PassCompleted(Family& family, const Walk& walk, std::chrono::milliseconds full_every) const {
  constexpr uint64_t kSpread = 16;
  const auto share = static_cast<int64_t>(kSpread + family.id % (kSpread + 1));
  family.full_due = Clock::now() + full_every * share / static_cast<int64_t>(2 * kSpread);
  family.membership_changed = false;
  if (vmstat_) family.host_swapped_in_pages = vmstat_->swapped_in_pages;
  for (const auto& member : family.members) {
    member->read_at.reset();
    // KSM merges, and a migration ends, without any signal of the process.
    if (!walk.ksm_in_use && !walk.unsettled) member->read_at = ChangeSignals::Of(*member->process);
  }
}

bool Scanner::ScanFamily(Family& family, std::chrono::milliseconds full_every, ScanObserver& observer) {
  FamilyView view;
  view.family = &family;
  view.geometry = geometry_;
  view.scan_known = capabilities_.pagemap_scan;
  view.frames_known = capabilities_.frames;
  if (family.members.empty()) {
    MovedSharing nothing;
    judgement_.Clear();
    view.moved = &nothing;
    view.judgement = &judgement_;
    view.read_at = std::chrono::system_clock::now();
    observer.OnFamily(view);
    return true;
  }
  std::vector<procfs::Pagemap> borrowed;
  std::vector<Cursor> cursors = Prepare(family, borrowed);
  Walk walk;
  walk.all = MustWalk(family);
  walk.swapped_in = SwappedIn(family);
  for (Cursor& cursor : cursors) {
    cursor.ranges = RangesOf(cursor, walk.all);
    if (walk.all && procfs::ReadKsmMergingPages(root_, cursor.member->process->memory).value_or(0) > 0) {
      walk.ksm_in_use = true;
    }
  }
  if (entries_.size() < cursors.size() * pages_) entries_.resize(cursors.size() * pages_);

  if (walk.all) family.ledger.BeginPass();
  const std::vector<uint64_t> recorded = walk.all ? family.ledger.Windows() : std::vector<uint64_t>();
  size_t next_recorded = 0;
  while (true) {
    uint64_t window = next_recorded < recorded.size() ? recorded[next_recorded] : ~uint64_t{0};
    for (const Cursor& cursor : cursors) {
      if (cursor.alive && cursor.next_range < cursor.ranges.size()) {
        window = std::min(window, cursor.ranges[cursor.next_range].first / pages_);
      }
    }
    if (window == ~uint64_t{0}) break;
    if (!observer.Continue()) return false;
    WalkWindow(family, cursors, window, walk, observer);
    if (next_recorded < recorded.size() && recorded[next_recorded] == window) ++next_recorded;
    for (Cursor& cursor : cursors) {
      const uint64_t done = (window + 1) * pages_;
      while (cursor.next_range < cursor.ranges.size() && cursor.ranges[cursor.next_range].last <= done)
        ++cursor.next_range;
      if (cursor.next_range < cursor.ranges.size()) {
        PageRange& range = cursor.ranges[cursor.next_range];
        range.first = std::max(range.first, done);
      }
    }
  }
  for (Cursor& cursor : cursors) {
    if (!walk.all && cursor.alive) {
      SampleLonely(cursor);
      ScanUnwalked(cursor, true, view.unwalked);
    } else if (!capabilities_.frames && cursor.alive) {
      ScanUnwalked(cursor, false, view.unwalked);
    }
  }
  if (!ReadSmaps(family, observer)) return false;
  view.smaps = smaps_;
  for (const auto& member : family.members) view.modes[static_cast<size_t>(member->mode)] = true;
  judgement_.Clear();
  MovedSharing moved;
  if (walk.all) FinishLedger(family, moved);
  view.moved = &moved;
  view.judgement = &judgement_;
  view.read_at = std::chrono::system_clock::now();
  PassCompleted(family, walk, full_every);
  observer.OnFamily(view);
  return true;
}

// smaps_rollup asks for less than pagemap does (ptrace read permission, no CAP_DAC_READ_SEARCH): it is what is left to
// know of a process whose page table is denied.
bool Scanner::ReadSmaps(const Family& family, ScanObserver& observer) {
  smaps_.clear();
  for (const auto& member : family.members) {
    SmapsReading& reading = smaps_.emplace_back();
    const Process& process = *member->process;
    const bool denied = member->mode == Mode::kNone;
    if (!denied && !needs_.smaps_rollup_max_bytes) continue;
    // Swapped pages are walked as resident ones are.
    const uint64_t bytes = process.ResidentBytes() + process.status.swap_bytes.value_or(0);
    if (bytes > needs_.smaps_rollup_max_bytes.value_or(kMaxSmapsBytes)) {
      reading.state = SmapsReading::State::kTooLarge;
      continue;
    }
    if (!observer.Continue()) return false;
    const auto sums = procfs::ReadSmapsRollup(root_, process.memory);
    if (!sums) {
      const bool gone = sums.error().kind == procfs::ErrorKind::kGone;
      reading.state = gone ? SmapsReading::State::kGone : SmapsReading::State::kUnreadable;
      continue;
    }
    reading = {SmapsReading::State::kRead, *sums};
    if (denied) member->mode = Mode::kNoPagemap;
  }
  return true;
}

void Scanner::FinishLedger(Family& family, MovedSharing& moved) {
  std::vector<uint64_t> frames = family.ledger.OrphanFrames();
  facts_.Clear();
  if (!frames.empty()) frames_->Read(frames, true, facts_);
  family.ledger.FinishPass(facts_, judgement_, moved);
  Account(family);
  if (moved.unmatched_pages == 0) family.members.front()->shares_unseen = false;
}

void Scanner::WalkWindow(Family& family, std::vector<Cursor>& cursors, uint64_t window, Walk& walk,
                         ScanObserver& observer) {
  const uint64_t begin = window * pages_;
  for (size_t i = 0; i < cursors.size(); ++i) {
    Cursor& cursor = cursors[i];
    cursor.entries = zero_window_.data();
    cursor.maps_window = cursor.alive && cursor.next_range < cursor.ranges.size() &&
                         cursor.ranges[cursor.next_range].first < begin + pages_;
    if (!cursor.maps_window) continue;
    cursor.entries = entries_.data() + i * pages_;
    ReadWindow(cursor, window, {cursor.entries, pages_});
    if (!cursor.alive) cursor.maps_window = false;
  }
  judgement_.Clear();
  facts_.Clear();
  SettleWindow(family, cursors, window, walk);
  Account(family);
  Show(family, cursors, window, walk, observer);
}

void Scanner::BuildReadings(const Family& family, const std::vector<Cursor>& cursors, uint64_t window) {
  readings_.clear();
  cursor_of_reading_.clear();
  for (uint32_t i = 0; i < cursors.size(); ++i) {
    if (!cursors[i].alive) continue;
    const Member& member = *cursors[i].member;
    const Mapping* mapping = FindMapping(member.mappings, window * geometry_.huge_page_bytes);
    readings_.push_back({member.slot, cursors[i].entries, member.first_look, member.parent,
                         cursors[i].member == family.root(), mapping != nullptr && mapping->hugetlb});
    cursor_of_reading_.push_back(i);
  }
}

bool Scanner::WitnessesAgree(std::vector<Cursor>& cursors, uint64_t window, std::span<uint64_t> unstable) {
  bool agree = true;
  for (const uint32_t witness : examination_.witnesses) {
    Cursor& cursor = cursors[cursor_of_reading_[witness]];
    if (!cursor.maps_window) continue;
    ReadWindow(cursor, window, again_);
    if (!cursor.alive) return false;
    ForEachBit(examination_.attention, [&](size_t page) {
      if (again_[page] == cursor.entries[page]) return;
      SetBit(unstable, page);
      agree = false;
    });
  }
  return agree;
}

// Pages are away, and not in swap.
bool Scanner::AnyMigrating() const {
  bool any = false;
  for (size_t r = 0; r < readings_.size(); ++r) {
    ForEachBit(examination_.members[r].away,
               [&](size_t page) { any = any || !procfs::IsRealSwap(readings_[r].entries[page]); });
  }
  return any;
}

void Scanner::SettleWindow(Family& family, std::vector<Cursor>& cursors, uint64_t window, Walk& walk) {
  if (!walk.all) {
    BuildReadings(family, cursors, window);
    sharing_.members.assign(readings_.size(), {std::vector<uint64_t>((pages_ + 63) / 64, 0), 0});
    sharing_.exposure_pages = 0;
    sharing_.unresolved_pages = 0;
    return;
  }
  std::vector<uint64_t> unstable((pages_ + 63) / 64);
  for (int attempt = 1;; ++attempt) {
    BuildReadings(family, cursors, window);
    family.ledger.Examine(window, readings_, {walk.ksm_in_use, walk.swapped_in}, examination_);
    facts_.Clear();
    if (!examination_.questions.empty()) frames_->Read(examination_.questions, false, facts_);
    if (examination_.witnesses.empty()) break;
    ++counters_.windows_read_again;
    std::fill(unstable.begin(), unstable.end(), 0);
    if (WitnessesAgree(cursors, window, unstable)) break;
    if (attempt == kAttempts) {
      examination_.unstable = unstable;
      counters_.unstable_pages += CountBits(unstable);
      walk.unsettled = true;
      break;
    }
    for (Cursor& cursor : cursors) {
      if (cursor.maps_window && cursor.alive) ReadWindow(cursor, window, {cursor.entries, pages_});
      if (!cursor.alive) cursor.maps_window = false;
    }
  }
  if (AnyMigrating()) walk.unsettled = true;
  family.ledger.Settle(window, readings_, facts_, examination_, judgement_, sharing_);
}

void Scanner::Account(const Family& family) {
  for (const Verdict& verdict : judgement_.verdicts) {
    if (verdict.kind != Verdict::Kind::kBreak || !verdict.side_known) continue;
    Member* breaker = family.FindSlot(verdict.slot);
    if (breaker == nullptr) continue;
    if (breaker->forked) breaker->life_break_pages += verdict.pages;
    for (uint32_t i = verdict.heirs_begin; i < verdict.heirs_end; ++i) {
      Member* heir = family.FindSlot(judgement_.heirs[i]);
      if (heir != nullptr && heir->parent == verdict.slot) heir->life_break_pages += verdict.pages;
    }
  }
}

SegmentTally Scanner::TallySegment(const Mapping& mapping, std::span<const uint64_t> entries) const {
  SegmentTally tally;
  const bool anonymous = mapping.IsAnonymous();
  uint64_t file_more = 0;
  for (const uint64_t entry : entries) {
    const uint64_t present = entry >> 63;
    const uint64_t file = (entry >> 61) & 1;
    const uint64_t once = (entry >> 56) & 1;
    const auto zero = static_cast<uint64_t>(FrameOf(entry) == zero_frame_ && zero_frame_ != kNoFrame);
    const uint64_t anon = present & ~file & 1 & ~zero;
    tally.anon += anon;
    tally.anon_multiple += anon & ~once;
    tally.zero_base += present & ~file & zero;
    tally.cache_once += present & file & once;
    file_more += present & file & ~once & 1;
  }
  if (anonymous) {
    // Only the huge zero page is marked as a file's in anonymous memory.
    tally.zero_huge = file_more + tally.cache_once;
    tally.cache_once = 0;
  } else {
    tally.cache_more = file_more;
  }
  if (tally.anon + tally.zero_base + tally.zero_huge + tally.cache_once + tally.cache_more != entries.size()) {
    for (const uint64_t entry : entries) tally.swapped += IsSwapEntry(entry) && procfs::IsRealSwap(entry) ? 1U : 0U;
  }
  return tally;
}

uint64_t Scanner::HugePages(Cursor& cursor, uint64_t window) {
  if (!capabilities_.pagemap_scan || !IsHugeRun({cursor.entries, pages_})) return 0;
  regions_.clear();
  const uint64_t start = window * geometry_.huge_page_bytes;
  const procfs::ScanRequest request{start, start + geometry_.huge_page_bytes, procfs::kScanHuge,
                                    procfs::kScanHuge | procfs::kScanZeroPage};
  if (!scan_.Scan(*cursor.pagemap, request, geometry_.huge_page_bytes, regions_, counters_.scan_calls, [] {})) return 0;
  uint64_t bytes = 0;
  for (const procfs::ScanRegion& region : regions_) {
    if ((region.categories & procfs::kScanZeroPage) == 0) bytes += region.end - region.start;
  }
  return bytes / geometry_.page_bytes;
}

void Scanner::Show(const Family& family, std::vector<Cursor>& cursors, uint64_t window, const Walk& walk,
                   ScanObserver& observer) {
  const uint64_t begin = window * pages_;
  const uint64_t end = begin + pages_;
  segments_.clear();
  shown_.clear();
  std::vector<size_t> first_segment;
  for (uint32_t r = 0; r < readings_.size(); ++r) {
    Cursor& cursor = cursors[cursor_of_reading_[r]];
    if (!cursor.maps_window) continue;
    const std::vector<Mapping>& mappings = cursor.member->mappings;
    while (cursor.next_mapping < mappings.size() && geometry_.PageOf(mappings[cursor.next_mapping].vma.end) <= begin) {
      ++cursor.next_mapping;
    }
    const std::span<const uint64_t> entries(cursor.entries, pages_);
    first_segment.push_back(segments_.size());
    const uint64_t huge = HugePages(cursor, window);
    for (size_t m = cursor.next_mapping; m < mappings.size(); ++m) {
      const Mapping& mapping = mappings[m];
      const uint64_t first = std::max(begin, geometry_.PageOf(mapping.vma.start));
      const uint64_t last = std::min(end, geometry_.PageOf(mapping.vma.end));
      if (first >= end) break;
      // Read in passing between two others; what is not walked is counted as a whole.
      if (!walk.all && mapping.IsAnonymous()) continue;
      Segment segment{&mapping, static_cast<uint32_t>(first - begin), static_cast<uint32_t>(last - first), {}};
      const bool whole = segment.pages == pages_;
      const bool as_first = !shown_.empty() && whole && segments_.front().pages == pages_ &&
                            segments_.front().mapping->IsAnonymous() == mapping.IsAnonymous() &&
                            std::memcmp(shown_.front().entries.data(), cursor.entries, pages_ * sizeof(uint64_t)) == 0;
      segment.tally =
          as_first ? segments_.front().tally : TallySegment(mapping, entries.subspan(segment.first, segment.pages));
      segment.tally.anon_shared = CountBits(sharing_.members[r].shared, segment.first, segment.pages);
      segment.tally.huge_pmd = whole && !mapping.hugetlb ? huge : 0;
      cursor.walked_anon_pages += mapping.hugetlb ? 0 : segment.tally.anon;
      cursor.walked_hugetlb_pages +=
          mapping.hugetlb ? segment.tally.anon + segment.tally.cache_once + segment.tally.cache_more : 0;
      cursor.walked_swap_pages += mapping.vma.shared ? 0 : segment.tally.swapped;
      segments_.push_back(segment);
    }
    MemberWindow shown;
    shown.member = cursor.member;
    shown.entries = entries;
    shown.ksm_pages = sharing_.members[r].ksm_pages;
    const bool was_huge = cursor.member->huge_windows.erase(window) != 0;
    if (huge == pages_) {
      cursor.member->huge_windows.insert(window);
    } else if (was_huge) {
      shown.split = std::any_of(judgement_.verdicts.begin(), judgement_.verdicts.end(), [&](const Verdict& verdict) {
        return verdict.kind == Verdict::Kind::kBreak && verdict.slot == cursor.member->slot;
      });
    }
    shown_.push_back(shown);
  }
  first_segment.push_back(segments_.size());
  for (size_t i = 0; i < shown_.size(); ++i) {
    shown_[i].segments = std::span(segments_).subspan(first_segment[i], first_segment[i + 1] - first_segment[i]);
  }
  WindowView view;
  view.family = &family;
  view.window = window;
  view.geometry = geometry_;
  view.read_at = std::chrono::system_clock::now();
  view.members = shown_;
  view.sharing = &sharing_;
  view.judgement = &judgement_;
  view.frames_known = capabilities_.frames;
  observer.OnWindow(view);
}

}  // namespace cow::memory
