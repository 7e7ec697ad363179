#include "collectors/memory/read/page_table_reader.h"

#include <algorithm>
#include <array>
#include <utility>

#include "collectors/procfs/smaps.h"

namespace cow::memory {
namespace {

using Clock = std::chrono::steady_clock;

// The rest of a process between two windows. A writer that sleeps on the mmap lock needs that long to wake; a reader
// that returns sooner takes the lock again first.
constexpr auto kRest = std::chrono::microseconds(50);
// A huge page is one entry. Reading this many holds the lock as long as reading a window of base pages.
constexpr size_t kHugePagesPerRest = 8;
// If the mappings exceed resident memory by this factor, finds populated ranges first: reading a hole costs a tenth of
// reading a page, finding a page a third.
constexpr uint64_t kSparseFactor = 6;
constexpr uint64_t kSparseSlackPages = 16384;
// Slices of PAGEMAP_SCAN under one hold of the lock: of a dense mapping, and of a sparse one, where the number of pages
// found bounds the hold.
constexpr uint64_t kDenseSliceBytes = uint64_t{32} << 20;
constexpr uint64_t kSparseSliceBytes = uint64_t{16} << 30;
constexpr uint64_t kSparseSlicePages = 4096;

constexpr uint64_t kUninteresting = procfs::kPagemapSoftDirty | procfs::kPagemapUffdWriteProtected;

// Finds the regions of the window at `start` that huge pages map, with the huge zero page marked. False if unreadable.
bool ScanHugePages(const Host& host, const procfs::Pagemap& pagemap, uint64_t start,
                   std::vector<procfs::ScanRegion>& regions, uint64_t& calls) {
  regions.clear();
  const uint64_t bytes = host.geometry.huge_page_bytes;
  const procfs::ScanRequest request{start, start + bytes, procfs::kScanHuge, procfs::kScanHuge | procfs::kScanZeroPage};
  return host.scan.Scan(pagemap, request, bytes, regions, calls, [] {}).has_value();
}

}  // namespace

PageTableReader::PageTableReader(const Host& host, ScanCounters& counters, const procfs::Pagemap& pagemap,
                                 PageTableOwner owner)
    : host_(&host),
      counters_(&counters),
      pagemap_(&pagemap),
      owner_(std::move(owner)),
      pages_(host.geometry.PagesPerWindow()) {}

std::optional<WindowIndex> PageTableReader::NextWindow() const {
  if (!alive_ || next_range_ == ranges_.size()) return std::nullopt;
  return ranges_[next_range_].first.Window(pages_);
}

void PageTableReader::Pass(WindowIndex window) {
  const PageNumber done = window.EndPage(pages_);
  while (next_range_ < ranges_.size() && ranges_[next_range_].last <= done) ++next_range_;
  if (next_range_ < ranges_.size()) ranges_[next_range_].first = std::max(ranges_[next_range_].first, done);
}

bool PageTableReader::Maps(WindowIndex window) const {
  return alive_ && next_range_ < ranges_.size() && ranges_[next_range_].first < window.EndPage(pages_);
}

void PageTableReader::Rest(size_t pages) {
  if (pages_since_rest_ + pages <= pages_) {
    pages_since_rest_ += pages;
    return;
  }
  while (Clock::now() - read_end_ < kRest) SleepBriefly(*counters_);
  pages_since_rest_ = pages;
}

bool PageTableReader::ReadPages(PageNumber first, std::span<PageEntry> entries) {
  Rest(entries.size());
  const auto read = pagemap_->Read(first, entries);
  read_end_ = Clock::now();
  ++counters_->pagemap_reads;
  if (!read) {
    *owner_.unread = read.error();
    alive_ = false;
    return false;
  }
  counters_->pagemap_pages += entries.size();
  for (PageEntry& entry : entries) entry = entry.Without(kUninteresting);
  return true;
}

uint64_t PageTableReader::ReadWindow(WindowIndex window, std::span<PageEntry> entries) {
  const PageNumber begin = window.FirstPage(pages_);
  const PageNumber end = begin + pages_;
  PageNumber first = end;
  PageNumber last = begin;
  for (size_t i = next_range_; i < ranges_.size() && ranges_[i].first < end; ++i) {
    first = std::min(first, std::max(ranges_[i].first, begin));
    last = std::max(last, std::min(ranges_[i].last, end));
  }
  if (first >= last) {
    std::fill(entries.begin(), entries.end(), PageEntry());
    return 0;
  }
  if (last - first == pages_) return ReadWholeWindow(window, entries);
  std::fill(entries.begin(), entries.begin() + static_cast<std::ptrdiff_t>(first - begin), PageEntry());
  std::fill(entries.begin() + static_cast<std::ptrdiff_t>(last - begin), entries.end(), PageEntry());
  ReadPages(first, entries.subspan(first - begin, last - first));
  return 0;
}

uint64_t PageTableReader::ReadWholeWindow(WindowIndex window, std::span<PageEntry> entries) {
  if (ReadHugePage(window, entries)) return pages_;
  if (!alive_ || !ReadPages(window.FirstPage(pages_), entries)) return 0;
  return CountHugePages(window, entries);
}

// If the window was one huge page at the last look and still is, its first entry gives all others. Reads that entry
// before and after PAGEMAP_SCAN, so that all three are about the same page.
bool PageTableReader::ReadHugePage(WindowIndex window, std::span<PageEntry> entries) {
  if (!host_->capabilities.pagemap_scan || !owner_.huge_windows->contains(window)) return false;
  Rest(pages_ / kHugePagesPerRest);
  std::array<PageEntry, 1> before{};
  std::array<PageEntry, 1> after{};
  if (!ReadPages(window.FirstPage(pages_), before)) return false;
  const Pfn frame = before.front().Frame();
  if (!before.front().IsPresent() || frame == Pfn::None() || frame.InRun(pages_) != 0) return false;
  const uint64_t start = window.Address(host_->geometry.huge_page_bytes);
  const uint64_t end = start + host_->geometry.huge_page_bytes;
  const bool scanned = ScanHugePages(*host_, *pagemap_, start, regions_, counters_->scan_calls);
  if (!scanned || regions_.size() != 1 || regions_.front().start != start || regions_.front().end != end ||
      (regions_.front().categories & procfs::kScanZeroPage) != 0) {
    return false;
  }
  if (!ReadPages(window.FirstPage(pages_), after) || after != before) return false;
  for (size_t i = 0; i < entries.size(); ++i) entries[i] = before.front().Following(i);
  return true;
}

uint64_t PageTableReader::CountHugePages(WindowIndex window, std::span<const PageEntry> entries) {
  if (!host_->capabilities.pagemap_scan || !IsHugeRun(entries)) return 0;
  const uint64_t start = window.Address(host_->geometry.huge_page_bytes);
  if (!ScanHugePages(*host_, *pagemap_, start, regions_, counters_->scan_calls)) return 0;
  uint64_t bytes = 0;
  for (const procfs::ScanRegion& region : regions_) {
    if ((region.categories & procfs::kScanZeroPage) == 0) bytes += region.end - region.start;
  }
  return bytes / host_->geometry.page_bytes;
}

template <class Take>
void PageTableReader::ScanMapping(const procfs::Vma& vma, uint64_t any_of, uint64_t return_mask, bool sparse,
                                  Take&& take) {
  procfs::ScanRequest request{vma.start, vma.end, any_of, return_mask};
  if (sparse) request.max_pages = kSparseSlicePages;
  const uint64_t calls_before = counters_->scan_calls;
  regions_.clear();
  auto slice_begin = Clock::now();
  const auto result = host_->scan.Scan(*pagemap_, request, sparse ? kSparseSliceBytes : kDenseSliceBytes, regions_,
                                       counters_->scan_calls, [&] {
                                         take(regions_);
                                         regions_.clear();
                                         // A slice of holes holds the lock too briefly to need a rest.
                                         if (Clock::now() - slice_begin > kRest / 5) SleepBriefly(*counters_);
                                         slice_begin = Clock::now();
                                       });
  if (counters_->scan_calls != calls_before) read_end_ = Clock::now();
  take(regions_);
  if (!result) {
    *owner_.unread = result.error();
    alive_ = false;
  }
}

void PageTableReader::AddPopulatedRanges(const Mapping& mapping) {
  constexpr uint64_t kPopulated = procfs::kScanPresent | procfs::kScanSwapped;
  ScanMapping(mapping.vma, kPopulated, kPopulated, true, [this](std::span<const procfs::ScanRegion> regions) {
    for (const procfs::ScanRegion& region : regions) {
      const PageRange range{host_->geometry.PageOf(region.start), host_->geometry.PageOf(region.end)};
      // One read covers neighbours within a window anyway.
      if (!ranges_.empty() && range.first <= ranges_.back().last.Window(pages_).EndPage(pages_)) {
        ranges_.back().last = range.last;
      } else {
        ranges_.push_back(range);
      }
    }
  });
}

std::vector<bool> PageTableReader::EmptyByScreening() const {
  const std::vector<Mapping>& mappings = *owner_.mappings;
  std::vector<bool> empty(mappings.size(), false);
  const auto areas = procfs::ReadSmaps(host_->root, owner_.process->memory);
  if (!areas) return empty;
  size_t i = 0;  // both lists ascend
  for (const procfs::SmapsVma& area : *areas) {
    while (i < empty.size() && mappings[i].vma.start < area.vma.start) ++i;
    if (i == empty.size()) break;
    const procfs::Vma& vma = mappings[i].vma;
    const bool same = vma.start == area.vma.start && vma.end == area.vma.end;
    empty[i] = same && area.rss_bytes + area.swap_bytes == 0;
  }
  return empty;
}

void PageTableReader::Plan(bool walk_all) {
  const std::vector<Mapping>& mappings = *owner_.mappings;
  ranges_.clear();
  next_range_ = 0;
  uint64_t total = 0;
  for (const Mapping& mapping : mappings) {
    if (walk_all || !mapping.IsAnonymous()) total += mapping.vma.SizeBytes() / host_->geometry.page_bytes;
  }
  const uint64_t resident = host_->geometry.PagesOf(owner_.process->SizeBytes());
  const bool sparse = total > kSparseFactor * resident + kSparseSlackPages;
  std::vector<bool> empty(mappings.size(), false);
  if (sparse && !host_->capabilities.pagemap_scan) empty = EmptyByScreening();
  for (size_t i = 0; i < mappings.size() && alive_; ++i) {
    const Mapping& mapping = mappings[i];
    if (empty[i] || (!walk_all && mapping.IsAnonymous())) continue;
    const PageRange range{host_->geometry.PageOf(mapping.vma.start), host_->geometry.PageOf(mapping.vma.end)};
    if (sparse && host_->capabilities.pagemap_scan && range.last - range.first > 4 * pages_) {
      AddPopulatedRanges(mapping);
    } else if (!ranges_.empty() && ranges_.back().last == range.first) {
      ranges_.back().last = range.last;
    } else {
      ranges_.push_back(range);
    }
  }
}

void PageTableReader::ScanUnwalked(Unwalked& unwalked) {
  if (!host_->capabilities.pagemap_scan) return;
  constexpr uint64_t kWanted = procfs::kScanZeroPage | procfs::kScanHuge;
  const uint64_t resident = host_->geometry.PagesOf(owner_.process->ResidentBytes());
  for (const Mapping& mapping : *owner_.mappings) {
    if (!mapping.IsAnonymous() || mapping.hugetlb || !alive_) continue;
    const auto add = [&unwalked](std::span<const procfs::ScanRegion> regions) {
      for (const procfs::ScanRegion& region : regions) {
        const uint64_t bytes = region.end - region.start;
        const bool zero = (region.categories & procfs::kScanZeroPage) != 0;
        const bool huge = (region.categories & procfs::kScanHuge) != 0;
        if (zero) {
          (huge ? unwalked.zero_huge_bytes : unwalked.zero_base_bytes) += bytes;
        } else if (huge) {
          unwalked.huge_pmd_bytes += bytes;
        }
      }
    };
    const uint64_t pages = mapping.vma.SizeBytes() / host_->geometry.page_bytes;
    if (pages > kSparseFactor * resident + kSparseSlackPages) {
      ScanMapping(mapping.vma, procfs::kScanPresent, procfs::kScanPresent | kWanted, true, add);
    } else {
      ScanMapping(mapping.vma, kWanted, kWanted, false, add);
    }
  }
}

}  // namespace cow::memory
