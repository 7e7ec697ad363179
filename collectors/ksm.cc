// Collector `ksm`: memory that the kernel merged because its contents are equal, from /proc/PID/ksm_stat. The file is
// read in every pass: KSM merges pages without a change signal.
#include <array>
#include <optional>
#include <string_view>

#include "collectors/registry.h"

namespace cow::collectors {
namespace {

using procfs::KsmStat;

constexpr std::string_view kMergedAbsent = "If the kernel does not report it for every process of the group.";

constexpr Metric kKsmBytes{
    .name = "cow_ksm_bytes",
    .unit = "bytes",
    .help = "Memory merged by KSM, counted once per process that maps it.",
    .source = "ksm_merging_pages of /proc/PID/ksm_stat, or /proc/PID/ksm_merging_pages before Linux 6.1.",
    .absent = kMergedAbsent,
};
constexpr Metric kKsmZeroPageBytes{
    .name = "cow_ksm_zero_page_bytes",
    .unit = "bytes",
    .help = "Memory of zeros that KSM mapped to the zero page; it takes no memory.",
    .source = "ksm_zero_pages of /proc/PID/ksm_stat.",
    .absent = kMergedAbsent,
};
constexpr Metric kKsmTrackedBytes{
    .name = "cow_ksm_tracked_bytes",
    .unit = "bytes",
    .help = "Memory that KSM tracks: merged pages, and candidates without an equal page so far.",
    .source = "ksm_rmap_items of /proc/PID/ksm_stat.",
    .absent = kMergedAbsent,
};
constexpr Metric kKsmProfitBytes{
    .name = "cow_ksm_profit_bytes",
    .unit = "bytes",
    .help =
        "The kernel's estimate of the memory that KSM saves in the group minus the memory it uses for tracking; "
        "negative if KSM costs more than it saves.",
    .source = "ksm_process_profit of /proc/PID/ksm_stat.",
    .absent = kMergedAbsent,
    .query = "cow_ksm_profit_bytes < 0",
};

class Ksm : public CollectorWithHooks {
 public:
  using CollectorWithHooks::CollectorWithHooks;

  size_t gauges() const override { return kGauges; }
  memory::Needs needs() const override {
    memory::Needs needs;
    needs.ksm_stat = true;
    return needs;
  }

  void OnPass(const FamilyPass& pass, const Tally& tally) override {
    for (const Result<KsmStat>& read : pass.ksm) {
      if (!read && read.error().kind == ErrorKind::kGone) continue;
      const KsmStat stat = read.value_or(KsmStat());
      Add(kMerged, PagesToBytes(stat.merging_pages), tally);
      Add(kZero, PagesToBytes(stat.zero_pages), tally);
      Add(kTracked, PagesToBytes(stat.rmap_items), tally);
      Add(kProfit, stat.profit_bytes, tally);
    }
  }

  void Publish(std::span<const GroupSums> groups, MetricWriter& writer) const override {
    Gauge(groups, writer, kKsmBytes, kMerged);
    Gauge(groups, writer, kKsmZeroPageBytes, kZero);
    Gauge(groups, writer, kKsmTrackedBytes, kTracked);
    Gauge(groups, writer, kKsmProfitBytes, kProfit);
  }

 private:
  enum Sum : size_t { kMerged, kZero, kTracked, kProfit, kSums };
  // Gauges: the sums, then the number of processes missing in each.
  static constexpr size_t kGauges = 2 * kSums;
  static constexpr size_t Lacking(size_t sum) { return kSums + sum; }

  std::optional<int64_t> PagesToBytes(const std::optional<uint64_t>& pages) const {
    if (!pages) return std::nullopt;
    return static_cast<int64_t>(*pages * geometry().page_bytes);
  }

  void Add(Sum sum, const std::optional<int64_t>& bytes, const Tally& tally) {
    tally.gauges[sum] += bytes.value_or(0);
    tally.gauges[Lacking(sum)] += bytes ? 0 : 1;
    kernel_tells_.at(sum) = kernel_tells_.at(sum) || bytes;
  }

  // Writes no series if a process is missing in the sum.
  void Gauge(std::span<const GroupSums> groups, MetricWriter& writer, const Metric& metric, Sum sum) const {
    writer.Begin(metric);
    if (!kernel_tells_.at(sum)) return;
    for (const GroupSums& sums : groups) {
      if (sums.gauges[Lacking(sum)] == 0) writer.AddFor(sums, {}, static_cast<double>(sums.gauges[sum]));
    }
  }

  std::array<bool, kSums> kernel_tells_{};
};

}  // namespace

std::unique_ptr<Collector> MakeKsm(const CollectorContext& context) { return std::make_unique<Ksm>(context.geometry); }

}  // namespace cow::collectors
