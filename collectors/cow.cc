// Collector `cow`: counts breaks by side and mapping, pages unshared without a copy, forks, and the pages copied over
// each child's life.
#include <prometheus/metric_family.h>

#include <array>
#include <variant>

#include "collectors/registry.h"

namespace cow::collectors {
namespace {

using memory::Verdict;
using prometheus::MetricType;

constexpr std::array<std::string_view, 3> kSides{"parent", "child", "unknown"};
constexpr std::array<std::string_view, memory::kMappingKinds> kMappings{"heap", "stack", "anon", "file", "shmem"};
constexpr std::array<std::string_view, 4> kCauses{"exit", "unmap", "collapse", "unknown"};
constexpr size_t kBuckets = 8;

// 64 KiB × 8ⁿ
constexpr std::array<double, kBuckets> Bounds() {
  std::array<double, kBuckets> bounds{};
  double bound = 64 * 1024;
  for (double& each : bounds) {
    each = bound;
    bound *= 8;
  }
  return bounds;
}
constexpr std::array<double, kBuckets> kBounds = Bounds();

constexpr Metric kBreaksTotal{
    .name = "cow_breaks_total",
    .type = MetricType::Counter,
    .unit = "pages",
    .help =
        "Pages shared by fork that a member replaced by a page of its own, by the member's side: parent is the "
        "family's root, child is any other member.",
    .labels = {{{"side", kSides}}},
    .known = Known::kFrames,
    .source =
        "A member's page-table entry has a new frame while a relative kept the shared one, or the kernel's marks show "
        "a copy. A page that was dropped and touched again between two looks counts too, because it looks the same. "
        "The side is unknown if neither witness shows which member has the original.",
    .query = "sum by (group, side) (rate(cow_breaks_total[1m]))",
};
constexpr Metric kBreakBytes{
    .name = "cow_break_bytes_total",
    .type = MetricType::Counter,
    .unit = "bytes",
    .help = "Bytes of the pages in cow_breaks_total, by the kind of mapping in which the member broke them.",
    .labels = {{{"mapping", kMappings}}},
    .known = Known::kFrames,
    .source = "The breaks of cow_breaks_total, and the mapping in /proc/PID/maps of the member that broke the page.",
    .query = "topk by (group) (1, rate(cow_break_bytes_total[5m]))",
};
constexpr Metric kHugePageSplits{
    .name = "cow_huge_page_splits_total",
    .type = MetricType::Counter,
    .unit = "pages",
    .help = "Huge pages that were split and in which a member broke a page.",
    .known = Known::kFramesAndScan,
    .source = "Windows with a break that PAGEMAP_SCAN called huge at the previous look and no longer calls huge.",
};
constexpr Metric kUnsharedBytes{
    .name = "cow_unshared_bytes_total",
    .type = MetricType::Counter,
    .unit = "bytes",
    .help = "Memory that became private without a copy, by cause.",
    .labels = {{{"cause", kCauses}}},
    .known = Known::kFrames,
    .source =
        "Pages that kept their frame, or were collapsed into a huge page, and are no longer shared with a relative.",
};
constexpr Metric kUnattributedBytes{
    .name = "cow_unattributed_bytes_total",
    .type = MetricType::Counter,
    .unit = "bytes",
    .help = "Memory that differs between members but was never seen shared: copied or allocated before the first look.",
    .known = Known::kFrames,
    .source = "The first look at a member, for pages on which the kernel's marks don't tell a copy from an original.",
};
constexpr Metric kForksTotal{
    .name = "cow_forks_total",
    .type = MetricType::Counter,
    .unit = "processes",
    .help = "Family members created by fork, as far as a scan saw them.",
    .known = Known::kPageTables,
    .source = "Process lists. A child that lived and died between two scans is missing.",
};
constexpr Metric kForkBreakBytes{
    .name = "cow_fork_break_bytes",
    .type = MetricType::Histogram,
    .unit = "bytes",
    .help = "Bytes broken between a child and its parent over the child's life, observed at its end.",
    .known = Known::kFrames,
    .source = "The breaks of cow_breaks_total on both sides. Bucket bounds are 64 KiB times powers of 8.",
    .query = "histogram_quantile(0.9, sum by (group, le) (rate(cow_fork_break_bytes_bucket[1h])))",
};
constexpr Metric kUnresolvedBytes{
    .name = "cow_unresolved_bytes",
    .unit = "bytes",
    .help = "Memory whose sharing can't be judged now: swapped on one side, or migrating.",
    .known = Known::kFrames,
    .source = "Swap and migration entries in page tables.",
};

class Cow : public Collector {
 public:
  using Collector::Collector;

  size_t gauges() const override { return 1; }
  size_t counters() const override { return kCounters; }

  void Accumulate(const memory::Report& report, const Tally& tally) const override {
    if (const auto* window = std::get_if<memory::WindowReport>(&report)) {
      tally.gauges[0] += static_cast<int64_t>(window->sharing->unresolved_pages);
      AddVerdicts(*window->family, *window->judgement, tally);
      for (const memory::MemberWindow& member : window->members) tally.counters[kSplits] += member.split ? 1 : 0;
    } else if (const auto* moved = std::get_if<memory::MovedReport>(&report)) {
      AddVerdicts(*moved->family, *moved->judgement, tally);
    } else if (const auto* family = std::get_if<memory::FamilyReport>(&report)) {
      tally.counters[kForks] += family->new_forks;
    } else if (const auto* end = std::get_if<memory::EndReport>(&report)) {
      AddLife(*end->member, tally);
    }
  }

  void Publish(std::span<const GroupSums> groups, MetricWriter& writer) const override {
    writer.Begin(kBreaksTotal);
    Labelled(groups, writer, kSides, kBreaks, false);
    writer.Begin(kBreakBytes);
    Labelled(groups, writer, kMappings, kBreakMappings, true);
    writer.AddForEach(kHugePageSplits, groups, [](const GroupSums& sums) { return sums.counters[kSplits]; });
    writer.Begin(kUnsharedBytes);
    Labelled(groups, writer, kCauses, kUnshared, true);
    writer.AddForEach(kUnattributedBytes, groups,
                      [this](const GroupSums& sums) { return Bytes(sums.counters[kUnattributed]); });
    writer.AddForEach(kForksTotal, groups, [](const GroupSums& sums) { return sums.counters[kForks]; });
    writer.Begin(kForkBreakBytes);
    for (const GroupSums& sums : groups) {
      writer.AddHistogram(sums, kBounds, sums.counters.subspan(kLives, kBuckets + 1), Bytes(sums.counters[kLifePages]));
    }
    writer.AddForEach(kUnresolvedBytes, groups, [this](const GroupSums& sums) { return Bytes(sums.gauges[0]); });
  }

 private:
  enum Cell : size_t {
    kBreaks = 0,
    kBreakMappings = kBreaks + kSides.size(),
    kUnshared = kBreakMappings + kMappings.size(),
    kUnattributed = kUnshared + kCauses.size(),
    kSplits,
    kForks,
    kLives,
    kLifePages = kLives + kBuckets + 1,
    kCounters
  };

  void AddLife(const memory::Member& member, const Tally& tally) const {
    if (!member.life.forked || member.life.missed) return;
    const double bytes = Bytes(member.life.family_break_pages);
    size_t bucket = 0;
    while (bucket < kBuckets && bytes > kBounds[bucket]) ++bucket;
    ++tally.counters[kLives + bucket];
    tally.counters[kLifePages] += member.life.family_break_pages;
  }

  void AddVerdicts(const memory::Family& family, const memory::Judgement& judgement, const Tally& tally) const {
    const memory::Member* root = family.root();
    for (const Verdict& verdict : judgement.verdicts) {
      switch (verdict.kind) {
        case Verdict::Kind::kBreak: {
          size_t side = root != nullptr && verdict.slot == root->slot ? 0 : 1;
          if (!verdict.side_known) side = 2;
          tally.counters[kBreaks + side] += verdict.pages;
          const auto mapping = static_cast<size_t>(memory::KindOfVerdict(family, verdict, geometry()));
          tally.counters[kBreakMappings + mapping] += verdict.pages;
          break;
        }
        case Verdict::Kind::kUnshared:
          tally.counters[kUnshared + static_cast<size_t>(verdict.cause)] += verdict.pages;
          break;
        case Verdict::Kind::kUnattributed:
          tally.counters[kUnattributed] += verdict.pages;
          break;
      }
    }
  }

  void Labelled(std::span<const GroupSums> groups, MetricWriter& writer, std::span<const std::string_view> values,
                size_t first, bool bytes) const {
    for (const GroupSums& sums : groups) {
      for (size_t i = 0; i < values.size(); ++i) {
        const uint64_t pages = sums.counters[first + i];
        writer.AddFor(sums, {values[i]}, bytes ? Bytes(pages) : static_cast<double>(pages));
      }
    }
  }
};

}  // namespace

std::unique_ptr<Collector> MakeCow(const CollectorContext& context) { return std::make_unique<Cow>(context.geometry); }

}  // namespace cow::collectors
