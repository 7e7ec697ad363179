// A metric's declaration, and the writer that publishes by it. Each metric is declared once, beside the code that
// publishes it: its name, help and labels are what is exported, and with the rest of it the reference, METRICS.md, is
// made. Whoever publishes begins every metric it has, also those that have no series now.
#pragma once

#include <prometheus/metric_family.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string_view>
#include <vector>

namespace cow::collectors {

// What must have been readable of a group for a value to be known; where it was not there is no series.
enum class Known {
  kAlways,
  kPageTables,          // of some process, at least
  kFrames,              // and no family's frames are hidden
  kScan,                // page tables, and the kernel has PAGEMAP_SCAN
  kFramesAndScan,       // both
  kFramesOrScan,        // one of both
  kFramesAndMapCounts,  // frames, and the kernel counts each page's mappings
  kFramesOrMapCounts,   // page tables, and one of both
};

struct MetricLabel {
  std::string_view name;
  std::span<const std::string_view> values{};  // all that there can be; empty: any
  std::string_view meaning{};                  // of values that are not fixed
};

// All of it lives as long as the program.
struct Metric {
  std::string_view name;
  prometheus::MetricType type = prometheus::MetricType::Gauge;
  std::string_view unit{};  // "bytes", "pages", "processes"…; empty: 0 or 1, or of no unit
  std::string_view help{};  // sentences
  // Besides `group`, which is the first one of each metric that is of groups.
  std::array<MetricLabel, 4> labels{};
  bool of_groups = true;
  Known known = Known::kAlways;
  // Sentences for the reference, each of what the help does not say.
  std::string_view source{};  // what it is known from
  std::string_view absent{};  // when it is absent for another reason than `known`
  std::string_view query{};   // in PromQL, where one helps

  // Those that there are.
  std::span<const MetricLabel> Labels() const;
};

// The sums of one group, for publishing.
struct GroupSums {
  std::string_view group;
  std::span<const int64_t> gauges;
  std::span<const uint64_t> counters;
  bool frames_known = true;      // false: some family's frames are hidden, so what needs them is not known
  bool readable = true;          // false: no page table of the group could be read, so nothing of its state is known
  bool scan_known = true;        // false: no PAGEMAP_SCAN, so what only it tells is not known
  bool mapcounts_known = true;   // false: large folios' pages are not counted one by one
  bool some_unreadable = false;  // some process' page table could not be read
};
bool IsKnown(Known what, const GroupSums& sums);

class MetricWriter {
 public:
  // The values of the labels that the metric declares, in this order.
  using Values = std::initializer_list<std::string_view>;

  // `declared` gets every metric that is begun, `out` its family.
  explicit MetricWriter(std::vector<prometheus::MetricFamily>& out, std::vector<const Metric*>& declared)
      : out_(out), declared_(declared) {}

  // Opens a family of `metric`, which lives on; the series that follow belong to it.
  void Begin(const Metric& metric);
  // A series of a metric that is not of groups.
  void Add(Values values, double value);
  void AddFor(std::string_view group, Values values, double value);
  // The same, unless the metric is not known of the group.
  void AddFor(const GroupSums& sums, Values values, double value);
  // A histogram series: `counts` per bucket, not cumulative, the last one beyond the last bound.
  void AddHistogram(const GroupSums& sums, std::span<const double> bounds, std::span<const uint64_t> counts,
                    double sum);

 private:
  std::vector<prometheus::MetricFamily>& out_;
  std::vector<const Metric*>& declared_;
};

}  // namespace cow::collectors
