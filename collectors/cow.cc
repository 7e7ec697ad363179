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

  void OnFamily(const memory::FamilyView& view, const Tally& tally) override {
    AddVerdicts(*view.family, *view.judgement, tally);
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
    writer.Begin(
        "cow_breaks_total",
        "Pages that were shared by fork and were replaced by a member's own, by the member's side: parent is the "
        "family's root, child any other.",
        MetricType::Counter);
    Labelled(groups, writer, "side", kSides, kBreaks, false);
    writer.Begin("cow_break_bytes_total", "Bytes of those breaks, by the kind of the breaking member's mapping.",
                 MetricType::Counter);
    Labelled(groups, writer, "mapping", kMappings, kBreakMappings, true);
    writer.Begin("cow_huge_page_splits_total", "Huge pages found split where a member wrote.", MetricType::Counter);
    for (const GroupSums& sums : groups) {
      // Without PAGEMAP_SCAN it is not known which pages are huge.
      if (sums.readable && sums.frames_known && sums.scan_known)
        writer.AddFor(sums.group, {}, static_cast<double>(sums.counters[kSplits]));
    }
    writer.Begin("cow_unshared_bytes_total", "Memory that became private with no copy, by cause.", MetricType::Counter);
    Labelled(groups, writer, "cause", kCauses, kUnshared, true);
    writer.Begin(
        "cow_unattributed_bytes_total",
        "Memory that differs between members but was never seen shared: copied or allocated before the first look.",
        MetricType::Counter);
    for (const GroupSums& sums : groups) {
      if (sums.readable && sums.frames_known) writer.AddFor(sums.group, {}, Bytes(sums.counters[kUnattributed]));
    }
    writer.Begin("cow_forks_total", "Members that appeared by fork.", MetricType::Counter);
    for (const GroupSums& sums : groups) {
      if (sums.readable) writer.AddFor(sums.group, {}, static_cast<double>(sums.counters[kForks]));
    }
    writer.Begin("cow_fork_break_bytes",
                 "Bytes broken between a child and its parent over the child's life, at its end.",
                 MetricType::Histogram);
    for (const GroupSums& sums : groups) {
      if (!sums.readable || !sums.frames_known) continue;
      writer.AddHistogram(sums.group, kBounds, sums.counters.subspan(kLives, kBuckets + 1),
                          Bytes(sums.counters[kLifePages]));
    }
    writer.Begin("cow_unresolved_bytes", "Memory whose sharing can't be judged now: swapped on one side, or migrating.",
                 MetricType::Gauge);
    for (const GroupSums& sums : groups) {
      if (sums.readable && sums.frames_known) writer.AddFor(sums.group, {}, Bytes(sums.gauges[0]));
    }
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

  template <size_t kCount>
  void Labelled(std::span<const GroupSums> groups, MetricWriter& writer, const char* label,
                const std::array<std::string_view, kCount>& values, size_t first, bool bytes) const {
    for (const GroupSums& sums : groups) {
      if (!sums.readable || !sums.frames_known) continue;
      for (size_t i = 0; i < kCount; ++i) {
        const uint64_t pages = sums.counters[first + i];
        writer.AddFor(sums.group, {{label, std::string(values[i])}}, bytes ? Bytes(pages) : static_cast<double>(pages));
      }
    }
  }

  std::map<uint64_t, uint64_t> forks_;  // counted so far, by family
};

}  // namespace

std::unique_ptr<Collector> MakeCow(const CollectorContext& context) { return std::make_unique<Cow>(context.geometry); }

}  // namespace cow::collectors
