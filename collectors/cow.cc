// Collector `cow`: what happened to shared pages. Breaks by side and mapping, unsharing without a copy, forks, and what
// a fork cost over the child's life.
#include <prometheus/metric_family.h>

#include <array>
#include <map>

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
        "Pages that were shared by fork and were replaced by a member's own, by the member's side: parent is the "
        "family's root, child any other.",
    .labels = {{{"side", kSides}}},
    .known = Known::kFrames,
    .source =
        "Another frame in one member's page-table entry while a relative kept the one that both had, or the "
        "kernel's marks of a copy. A page dropped and touched again between two looks looks the same. The side is "
        "unknown where neither witness tells who has the original.",
    .query = "sum by (group, side) (rate(cow_breaks_total[1m]))",
};
constexpr Metric kBreakBytes{
    .name = "cow_break_bytes_total",
    .type = MetricType::Counter,
    .unit = "bytes",
    .help = "Bytes of those breaks, by the kind of the breaking member's mapping.",
    .labels = {{{"mapping", kMappings}}},
    .known = Known::kFrames,
    .source = "The same breaks; the kind is that of the mapping in /proc/PID/maps.",
    .query = "topk by (group) (1, rate(cow_break_bytes_total[5m]))",
};
constexpr Metric kHugePageSplits{
    .name = "cow_huge_page_splits_total",
    .type = MetricType::Counter,
    .unit = "pages",
    .help = "Huge pages found split where a member wrote.",
    .known = Known::kFramesAndScan,
    .source = "A window that PAGEMAP_SCAN called huge at the look before and no more, with a break in it.",
};
constexpr Metric kUnsharedBytes{
    .name = "cow_unshared_bytes_total",
    .type = MetricType::Counter,
    .unit = "bytes",
    .help = "Memory that became private with no copy, by cause.",
    .labels = {{{"cause", kCauses}}},
    .known = Known::kFrames,
    .source = "A page that kept its frame, or was collapsed into a huge page, and lost its last partner.",
};
constexpr Metric kUnattributedBytes{
    .name = "cow_unattributed_bytes_total",
    .type = MetricType::Counter,
    .unit = "bytes",
    .help = "Memory that differs between members but was never seen shared: copied or allocated before the first look.",
    .known = Known::kFrames,
    .source = "The first look at a member, where the kernel's marks don't tell.",
};
constexpr Metric kForksTotal{
    .name = "cow_forks_total",
    .type = MetricType::Counter,
    .unit = "processes",
    .help = "Members that appeared by fork.",
    .known = Known::kPageTables,
    .source = "Process lists: a child that lived and died between two scans is not in it.",
};
constexpr Metric kForkBreakBytes{
    .name = "cow_fork_break_bytes",
    .type = MetricType::Histogram,
    .unit = "bytes",
    .help = "Bytes broken between a child and its parent over the child's life, at its end.",
    .known = Known::kFrames,
    .source = "The breaks above, of both sides. Bounds are 64 KiB times powers of 8.",
    .query = "histogram_quantile(0.9, sum by (group, le) (rate(cow_fork_break_bytes_bucket[1h])))",
};
constexpr Metric kUnresolvedBytes{
    .name = "cow_unresolved_bytes",
    .unit = "bytes",
    .help = "Memory whose sharing can't be judged now: swapped on one side, or migrating.",
    .known = Known::kFrames,
    .source = "Swap and migration entries of page tables.",
};

class Cow : public Collector {
 public:
  using Collector::Collector;

  size_t gauges() const override { return 1; }
  size_t counters() const override { return kCounters; }

  void OnWindow(const memory::WindowView& view, const Tally& tally) override {
    tally.gauges[0] += static_cast<int64_t>(view.sharing->unresolved_pages);
    AddVerdicts(*view.family, *view.judgement, tally);
    for (const memory::MemberWindow& member : view.members) tally.counters[kSplits] += member.split ? 1 : 0;
  }

  void OnMoved(const memory::Family& family, const memory::Judgement& judgement, const Tally& tally) override {
    AddVerdicts(family, judgement, tally);
  }

  void OnFamily(const memory::FamilyView& view, const Tally& tally) override {
    uint64_t& forks = forks_[view.family->id];
    tally.counters[kForks] += view.family->forks - forks;
    forks = view.family->forks;
  }

  void OnEnd(const memory::Family& /*family*/, const memory::Member& member, const Tally& tally) override {
    if (!member.forked || member.missed) return;
    const double bytes = Bytes(member.life_break_pages);
    size_t bucket = 0;
    while (bucket < kBuckets && bytes > kBounds[bucket]) ++bucket;
    ++tally.counters[kLives + bucket];
    tally.counters[kLifePages] += member.life_break_pages;
  }

  void OnFamilyGone(uint64_t family_id) override { forks_.erase(family_id); }

  void Publish(std::span<const GroupSums> groups, MetricWriter& writer) const override {
    writer.Begin(kBreaksTotal);
    Labelled(groups, writer, kSides, kBreaks, false);
    writer.Begin(kBreakBytes);
    Labelled(groups, writer, kMappings, kBreakMappings, true);
    writer.Begin(kHugePageSplits);
    for (const GroupSums& sums : groups) writer.AddFor(sums, {}, static_cast<double>(sums.counters[kSplits]));
    writer.Begin(kUnsharedBytes);
    Labelled(groups, writer, kCauses, kUnshared, true);
    writer.Begin(kUnattributedBytes);
    for (const GroupSums& sums : groups) writer.AddFor(sums, {}, Bytes(sums.counters[kUnattributed]));
    writer.Begin(kForksTotal);
    for (const GroupSums& sums : groups) writer.AddFor(sums, {}, static_cast<double>(sums.counters[kForks]));
    writer.Begin(kForkBreakBytes);
    for (const GroupSums& sums : groups) {
      writer.AddHistogram(sums, kBounds, sums.counters.subspan(kLives, kBuckets + 1), Bytes(sums.counters[kLifePages]));
    }
    writer.Begin(kUnresolvedBytes);
    for (const GroupSums& sums : groups) writer.AddFor(sums, {}, Bytes(sums.gauges[0]));
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

  std::map<uint64_t, uint64_t> forks_;  // counted so far, by family
};

}  // namespace

std::unique_ptr<Collector> MakeCow(const CollectorContext& context) { return std::make_unique<Cow>(context.geometry); }

}  // namespace cow::collectors
