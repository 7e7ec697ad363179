// Collector `sharing`: resident, shared and private memory of each group, what copy-on-write saves, and which pages of
// private file mappings are copies. Sums are in base pages.

#include <algorithm>
#include <array>
#include <variant>

#include "collectors/registry.h"

namespace cow::collectors {
namespace {

constexpr std::array<std::string_view, 4> kBackings{"anon", "file", "shmem", "hugetlb"};
enum Backing : size_t { kAnon, kFile, kShmem, kHugetlb };

constexpr std::array<std::string_view, 3> kSharings{"private", "shared", "unknown"};
constexpr std::array<std::string_view, 2> kFileStates{"copied", "original"};

constexpr Metric kResidentBytes{
    .name = "cow_resident_bytes",
    .unit = "bytes",
    .help =
        "Resident memory by backing, counted once per process that maps it. anon,private is the private-dirty memory. "
        "Zero pages and swap are excluded. Sharing is unknown if a page table can't be read, if the kernel does not "
        "count a page's mappings, and for pages that KSM may have merged.",
    .labels = {{{"backing", kBackings}, {"sharing", kSharings}}},
    .source = "Page-table entries. /proc/PID/status for memory that is not walked and for memory with unknown sharing.",
    .query = R"(sum by (group) (cow_resident_bytes{backing="anon", sharing="private"}))",
};
constexpr Metric kSharedBytes{
    .name = "cow_shared_bytes",
    .unit = "bytes",
    .help = "Anonymous memory that another process maps too because of a fork, counted once per process that maps it.",
    .known = Known::kFramesOrMapCounts,
    .source = "Frames that several members map; if frames are hidden, bit 56 of the page-table entry.",
};
constexpr Metric kExposureBytes{
    .name = "cow_exposure_bytes",
    .unit = "bytes",
    .help =
        "Memory that copy-on-write saves now, and by which the group grows if every shared page is written: the sum "
        "over physical pages of (holders - 1).",
    .known = Known::kFrames,
    .source = "Frames, including pages at moved addresses. Swap, KSM and the zero page are excluded.",
    .query = "cow_exposure_bytes / on (instance) group_left node_memory_MemAvailable_bytes",
};
constexpr Metric kFootprintBytes{
    .name = "cow_footprint_bytes",
    .unit = "bytes",
    .help = "Distinct anonymous memory of the group: each physical page counts once.",
    .known = Known::kFrames,
    .source = "Frames: resident anonymous memory minus exposure.",
    .query = "topk(10, cow_footprint_bytes)",
};
constexpr Metric kPrivateFileBytes{
    .name = "cow_private_file_bytes",
    .unit = "bytes",
    .help =
        "Present pages of private file mappings: copied because the process wrote to them, or original pages of the "
        "page cache.",
    .labels = {{{"state", kFileStates}}},
    .known = Known::kPageTables,
    .source = "Bit 61 of page-table entries, which tells whether the page still belongs to the file.",
};
constexpr Metric kSwappedBytes{
    .name = "cow_swapped_bytes",
    .unit = "bytes",
    .help = "Memory in swap, counted once per process that maps it.",
    .source = "Page-table entries; /proc/PID/status for memory that is not walked.",
};
constexpr Metric kUnmatchedSharedBytes{
    .name = "cow_unmatched_shared_bytes",
    .unit = "bytes",
    .help = "Anonymous memory shared with processes that the exporter can't see.",
    .known = Known::kFramesAndMapCounts,
    .source = "Pages that another process maps according to bit 56, while no known relative has the frame.",
};

class Sharing : public CollectorWithHooks {
 public:
  using CollectorWithHooks::CollectorWithHooks;

  size_t gauges() const override { return kGauges; }

  void Accumulate(const memory::Report& report, const Tally& tally) const override {
    if (const auto* window = std::get_if<memory::WindowReport>(&report)) AddWindow(*window, tally);
    if (const auto* family = std::get_if<memory::FamilyReport>(&report)) AddFamily(*family, tally);
  }

  // Assumes that a child shares its parent's memory, as it does after a fork, so the parent's pages are not private.
  void AddUnread(std::span<const UnreadMember> members, std::span<int64_t> gauges) const override {
    int64_t with_parent = 0;
    for (const UnreadMember& member : members) {
      const int64_t own = member.anon_pages - member.shared_pages;
      gauges[Private(kAnon)] += own;
      gauges[Shared(kAnon)] += member.shared_pages;
      gauges[kSharedAnon] += member.shared_pages;
      gauges[kExposure] += member.shared_pages;
      gauges[kFootprint] += own;
      gauges[Shared(kFile)] += member.file_pages;
      gauges[Shared(kShmem)] += member.shmem_pages;
      gauges[kSwapped] += member.swapped_pages;
      with_parent = std::max(with_parent, member.shared_pages);
    }
    const int64_t of_parent = std::clamp<int64_t>(gauges[Private(kAnon)], 0, with_parent);
    gauges[Private(kAnon)] -= of_parent;
    gauges[Shared(kAnon)] += of_parent;
    gauges[kSharedAnon] += of_parent;
  }

  std::optional<FamilyMemory> DescribeFamily(std::span<const int64_t> gauges) const override {
    return FamilyMemory{gauges[kSharedAnon], gauges[Private(kAnon)] + gauges[Private(kHugetlb)], gauges[kExposure]};
  }

  void Publish(std::span<const GroupSums> groups, MetricWriter& writer) const override {
    writer.Begin(kResidentBytes);
    for (const GroupSums& sums : groups) {
      for (size_t backing = 0; backing < kBackings.size(); ++backing) {
        const auto add = [&](std::string_view sharing, size_t cell) {
          writer.AddFor(sums, {kBackings[backing], sharing}, Bytes(sums.gauges[cell]));
        };
        if (sums.readable && SharingIsKnown(backing, sums)) {
          add("private", Private(backing));
          add("shared", Shared(backing));
        }
        const bool unknown = sums.some_unreadable || !SharingIsKnown(backing, sums);
        if (unknown || sums.gauges[Unknown(backing)] != 0) add("unknown", Unknown(backing));
      }
    }
    Gauge(groups, writer, kSharedBytes, kSharedAnon);
    Gauge(groups, writer, kExposureBytes, kExposure);
    Gauge(groups, writer, kFootprintBytes, kFootprint);
    writer.Begin(kPrivateFileBytes);
    for (const GroupSums& sums : groups) {
      writer.AddFor(sums, {"copied"}, Bytes(sums.gauges[kCopied]));
      writer.AddFor(sums, {"original"}, Bytes(sums.gauges[kOriginal]));
    }
    Gauge(groups, writer, kSwappedBytes, kSwapped);
    Gauge(groups, writer, kUnmatchedSharedBytes, kUnmatched);
  }

 private:
  static constexpr size_t Private(size_t backing) { return backing * 3; }
  static constexpr size_t Shared(size_t backing) { return backing * 3 + 1; }
  static constexpr size_t Unknown(size_t backing) { return backing * 3 + 2; }
  enum Cell : size_t {
    kSharedAnon = 3 * kBackings.size(),
    kExposure,
    kFootprint,
    kCopied,
    kOriginal,
    kSwapped,
    kUnmatched,
    kGauges
  };

  void AddWindow(const memory::WindowReport& report, const Tally& tally) const {
    int64_t anon = 0;
    for (const memory::MemberWindow& member : report.members) {
      for (const memory::Segment& segment : member.segments) {
        const memory::SegmentTally& pages = segment.tally;
        const auto shared = static_cast<int64_t>(report.frames_known ? pages.anon_shared : pages.anon_multiple);
        const auto present = static_cast<int64_t>(pages.anon);
        const auto once = static_cast<int64_t>(pages.cache_once);
        const auto more = static_cast<int64_t>(pages.cache_more);
        const Backing backing = segment.mapping->hugetlb ? kHugetlb : kAnon;
        anon += present;
        AddPages(backing, present - shared, shared, report.frames_known || report.mapcounts_known, tally);
        tally.gauges[kSharedAnon] += shared;
        AddPages(CacheBacking(*segment.mapping), once, more, report.mapcounts_known, tally);
        if (segment.mapping->IsPrivateFile()) {
          tally.gauges[kCopied] += present;
          tally.gauges[kOriginal] += once + more;
        }
        tally.gauges[kSwapped] += static_cast<int64_t>(pages.swapped);
      }
      const auto ksm = static_cast<int64_t>(member.ksm_pages);
      tally.gauges[Private(kAnon)] -= ksm;
      tally.gauges[Shared(kAnon)] += ksm;
      const auto maybe_ksm = static_cast<int64_t>(member.maybe_ksm_pages);
      tally.gauges[Private(kAnon)] -= maybe_ksm;
      tally.gauges[Unknown(kAnon)] += maybe_ksm;
      anon -= ksm + maybe_ksm;
    }
    const auto exposure = static_cast<int64_t>(report.sharing->exposure_pages);
    tally.gauges[kExposure] += exposure;
    tally.gauges[kFootprint] += anon - exposure;
  }

  void AddFamily(const memory::FamilyReport& report, const Tally& tally) const {
    const auto unmatched = static_cast<int64_t>(report.moved.unmatched_pages);
    // If frames are hidden, a zero page in a window looks like a shared one.
    const int64_t zeros = report.frames_known ? 0 : Pages(report.unwalked.zero_base_bytes);
    const int64_t elsewhere = report.moved.shared_pages + unmatched;
    tally.gauges[Private(kAnon)] += Pages(report.unwalked.anon_bytes) - elsewhere;
    tally.gauges[Shared(kAnon)] += elsewhere - zeros;
    tally.gauges[kSharedAnon] += elsewhere - zeros;
    tally.gauges[kExposure] += report.moved.exposure_pages;
    tally.gauges[kFootprint] +=
        Pages(report.unwalked.anon_bytes) + Pages(report.unwalked.hugetlb_bytes) - report.moved.exposure_pages;
    tally.gauges[kUnmatched] += unmatched;
    tally.gauges[kSwapped] += Pages(report.unwalked.swap_bytes);
    tally.gauges[Private(kHugetlb)] += Pages(report.unwalked.hugetlb_bytes);
    for (const auto& member : report.family->members) {
      if (member->access.mode == memory::Mode::kNoPagemap || member->access.mode == memory::Mode::kNone)
        AddUnreadable(member->process->status, tally);
    }
  }

  // Frames show sharing by comparison. Without frames, and for the page cache, mapcounts show it.
  static bool SharingIsKnown(size_t backing, const GroupSums& sums) {
    return sums.mapcounts_known || (sums.frames_known && (backing == kAnon || backing == kHugetlb));
  }

  static void AddPages(Backing backing, int64_t own, int64_t shared, bool known, const Tally& tally) {
    tally.gauges[known ? Private(backing) : Unknown(backing)] += own;
    tally.gauges[known ? Shared(backing) : Unknown(backing)] += shared;
  }

  // Adds the kernel's sums for a process whose page table is hidden.
  void AddUnreadable(const procfs::Status& status, const Tally& tally) const {
    tally.gauges[Unknown(kAnon)] += Pages(status.rss_anon_bytes.value_or(0));
    tally.gauges[Unknown(kFile)] += Pages(status.rss_file_bytes.value_or(0));
    tally.gauges[Unknown(kShmem)] += Pages(status.rss_shmem_bytes.value_or(0));
    tally.gauges[Unknown(kHugetlb)] += Pages(status.hugetlb_bytes.value_or(0));
    tally.gauges[kSwapped] += Pages(status.swap_bytes.value_or(0));
  }

  static Backing CacheBacking(const memory::Mapping& mapping) {
    if (mapping.hugetlb) return kHugetlb;
    return mapping.kind == memory::MappingKind::kShmem ? kShmem : kFile;
  }

  void Gauge(std::span<const GroupSums> groups, MetricWriter& writer, const Metric& metric, size_t cell) const {
    writer.AddForEach(metric, groups, [this, cell](const GroupSums& sums) { return Bytes(sums.gauges[cell]); });
  }
};

}  // namespace

std::unique_ptr<Collector> MakeSharing(const CollectorContext& context) {
  return std::make_unique<Sharing>(context.geometry);
}

}  // namespace cow::collectors
