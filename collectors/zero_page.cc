// Collector `zero_page`: memory that is mapped to the kernel's zero page, so it reads as zeros and costs nothing.
#include <array>
#include <string_view>
#include <variant>

#include "collectors/registry.h"

namespace cow::collectors {
namespace {

constexpr std::array<std::string_view, 2> kSizes{"base", "huge"};

constexpr Metric kZeroPageBytes{
    .name = "cow_zero_page_bytes",
    .unit = "bytes",
    .help = "Memory mapped to the zero page, by page size; it takes no memory.",
    .labels = {{{"size", kSizes}}},
    .known = Known::kFramesOrScan,
    .source =
        "The zero page's frame, or the category PFNZERO of PAGEMAP_SCAN. If a process drops only zero pages, no change "
        "signal moves, so the value may be as old as scan.full_every.",
};

class ZeroPage : public Collector {
 public:
  using Collector::Collector;

  size_t gauges() const override { return kGauges; }

  void Accumulate(const memory::Report& report, const Tally& tally) const override {
    if (const auto* window = std::get_if<memory::WindowReport>(&report)) {
      for (const memory::MemberWindow& member : window->members) {
        for (const memory::Segment& segment : member.segments) {
          tally.gauges[kBase] += static_cast<int64_t>(segment.tally.zero_base);
          tally.gauges[kHuge] += static_cast<int64_t>(segment.tally.zero_huge);
        }
      }
    } else if (const auto* family = std::get_if<memory::FamilyReport>(&report)) {
      tally.gauges[kBase] += Pages(family->unwalked.zero_base_bytes);
      tally.gauges[kHuge] += Pages(family->unwalked.zero_huge_bytes);
    }
  }

  void Publish(std::span<const GroupSums> groups, MetricWriter& writer) const override {
    writer.Begin(kZeroPageBytes);
    for (const GroupSums& sums : groups) {
      writer.AddFor(sums, {"base"}, Bytes(sums.gauges[kBase]));
      writer.AddFor(sums, {"huge"}, Bytes(sums.gauges[kHuge]));
    }
  }

 private:
  enum Cell : size_t { kBase, kHuge, kGauges };
};

}  // namespace

std::unique_ptr<Collector> MakeZeroPage(const CollectorContext& context) {
  return std::make_unique<ZeroPage>(context.geometry);
}

}  // namespace cow::collectors
