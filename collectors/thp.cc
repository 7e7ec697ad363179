// Collector `thp`: transparent huge pages that a PMD maps.
#include <array>
#include <string_view>
#include <variant>

#include "collectors/registry.h"

namespace cow::collectors {
namespace {

constexpr std::array<std::string_view, 3> kHugeBackings{"anon", "file", "shmem"};
constexpr std::array<std::string_view, 1> kMapped{"pmd"};

constexpr Metric kHugePageBytes{
    .name = "cow_huge_page_bytes",
    .unit = "bytes",
    .help = "Memory in transparent huge pages, counted once per process that maps it.",
    .labels = {{{"backing", kHugeBackings}, {"mapped", kMapped}}},
    .known = Known::kScan,
    .source = "Pages that PAGEMAP_SCAN calls huge: one entry of the next page-table level (PMD) maps them.",
};

class Thp : public Collector {
 public:
  using Collector::Collector;

  size_t gauges() const override { return kGauges; }

  void Accumulate(const memory::Report& report, const Tally& tally) const override {
    if (const auto* window = std::get_if<memory::WindowReport>(&report)) {
      for (const memory::MemberWindow& member : window->members) {
        for (const memory::Segment& segment : member.segments) {
          if (segment.tally.huge_pmd == 0) continue;
          // A huge page of a private file mapping belongs to the page cache if its entries are not anonymous.
          const bool anon = segment.tally.anon != 0;
          const size_t cache = segment.mapping->kind == memory::MappingKind::kShmem ? kHugeShmem : kHugeFile;
          tally.gauges[anon ? kHugeAnon : cache] += static_cast<int64_t>(segment.tally.huge_pmd);
        }
      }
    } else if (const auto* family = std::get_if<memory::FamilyReport>(&report)) {
      tally.gauges[kHugeAnon] += Pages(family->unwalked.huge_pmd_bytes);
    }
  }

  void Publish(std::span<const GroupSums> groups, MetricWriter& writer) const override {
    writer.Begin(kHugePageBytes);
    for (const GroupSums& sums : groups) {
      for (size_t cell = 0; cell < kHugeBackings.size(); ++cell) {
        writer.AddFor(sums, {kHugeBackings.at(cell), kMapped.front()}, Bytes(sums.gauges[cell]));
      }
    }
  }

 private:
  enum Cell : size_t { kHugeAnon, kHugeFile, kHugeShmem, kGauges };
};

}  // namespace

std::unique_ptr<Collector> MakeThp(const CollectorContext& context) { return std::make_unique<Thp>(context.geometry); }

}  // namespace cow::collectors
