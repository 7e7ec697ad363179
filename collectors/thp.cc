// Collector `thp`: transparent huge pages mapped as such (by a PMD).
#include <prometheus/metric_family.h>

#include <array>

#include "collectors/registry.h"

namespace cow::collectors {
namespace {

class Thp : public Collector {
 public:
  using Collector::Collector;

  size_t gauges() const override { return kGauges; }

  void OnWindow(const memory::WindowView& view, const Tally& tally) override {
    for (const memory::MemberWindow& member : view.members) {
      for (const memory::Segment& segment : member.segments) {
        if (segment.tally.huge_pmd == 0) continue;
        // A private file mapping's huge page is the page cache's own unless its entries say anonymous.
        const bool anon = segment.tally.anon != 0;
        const size_t cache = segment.mapping->kind == memory::MappingKind::kShmem ? kShmem : kFile;
        tally.gauges[anon ? kAnon : cache] += static_cast<int64_t>(segment.tally.huge_pmd);
      }
    }
  }

  void OnFamily(const memory::FamilyView& view, const Tally& tally) override {
    tally.gauges[kAnon] += Pages(view.unwalked.huge_pmd_bytes);
  }

  void Publish(std::span<const GroupSums> groups, MetricWriter& writer) const override {
    constexpr std::array kNames{"anon", "file", "shmem"};
    writer.Begin("cow_huge_page_bytes", "Memory in transparent huge pages, as each process maps it.",
                 prometheus::MetricType::Gauge);
    for (const GroupSums& sums : groups) {
      if (!sums.readable || !sums.scan_known) continue;
      for (size_t cell = 0; cell < kNames.size(); ++cell) {
        writer.AddFor(sums.group, {{"backing", kNames.at(cell)}, {"mapped", "pmd"}}, Bytes(sums.gauges[cell]));
      }
    }
  }

 private:
  enum Cell : size_t { kAnon, kFile, kShmem, kGauges };
};

}  // namespace

std::unique_ptr<Collector> MakeThp(const CollectorContext& context) { return std::make_unique<Thp>(context.geometry); }

}  // namespace cow::collectors
