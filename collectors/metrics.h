// Declarations of metrics, and the writer that publishes them. Each metric is declared once, beside the code that
// publishes it. The exporter publishes its name, help and labels; METRICS.md is generated from the whole declaration. A
// publisher begins every metric it declares, also those without a series. Not thread-safe.
#pragma once

#include <prometheus/metric_family.h>

#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string_view>
#include <vector>

namespace cow::collectors {

// What must be readable for a value to be known. If it is not, the group has no series.
enum class Known {
  kAlways,
  kPageTables,          // the page table of at least one process
  kFrames,              // page tables, and the frames of all families
  kScan,                // page tables, and the kernel has PAGEMAP_SCAN
  kFramesAndScan,       // kFrames and kScan
  kFramesOrScan,        // kFrames or kScan
  kFramesAndMapCounts,  // kFrames, and the kernel counts the mappings of each page of a large folio
  kFramesOrMapCounts,   // page tables, and frames or such mapcounts
};

struct MetricLabel {
  std::string_view name;
  std::span<const std::string_view> values{};  // all possible values; empty: any
  std::string_view meaning{};                  // meaning of the values if they are not fixed
};

// The declaration of a metric. All its parts must live as long as the program.
struct Metric {
  std::string_view name;
  prometheus::MetricType type = prometheus::MetricType::Gauge;
  std::string_view unit{};  // "bytes", "pages", "processes"…; empty: 0 or 1, or of no unit
  std::string_view help{};  // sentences
  // Labels besides `group`, which is the first label of each metric with `of_groups`.
  std::array<MetricLabel, 4> labels{};
  bool of_groups = true;
  Known known = Known::kAlways;
  // Sentences for METRICS.md that do not repeat the help.
  std::string_view source{};  // where the value comes from
  std::string_view absent{};  // when it is absent, besides `known`
  std::string_view query{};   // a useful query in PromQL

  // Returns the used part of `labels`.
  std::span<const MetricLabel> Labels() const;
};

// The sums of one group.
struct GroupSums {
  std::string_view group;
  std::span<const int64_t> gauges;
  std::span<const uint64_t> counters;
  bool frames_known = true;      // false: the frames of some family are hidden
  bool readable = true;          // false: no page table of the group could be read
  bool scan_known = true;        // false: the kernel lacks PAGEMAP_SCAN
  bool mapcounts_known = true;   // false: the kernel does not count the mappings of each page of a large folio
  bool some_unreadable = false;  // true: some page table could not be read
};
bool IsKnown(Known what, const GroupSums& sums);

class MetricWriter {
 public:
  // The values of the labels that the metric declares, in this order.
  using Values = std::initializer_list<std::string_view>;

  // Appends each begun metric to `declared` and its family to `out`.
  explicit MetricWriter(std::vector<prometheus::MetricFamily>& out, std::vector<const Metric*>& declared)
      : out_(out), declared_(declared) {}

  // Opens a metric family; the series that follow belong to it. `metric` must live as long as the program.
  void Begin(const Metric& metric);
  // Adds a series of a metric without the label `group`.
  void Add(Values values, double value);
  void AddFor(std::string_view group, Values values, double value);
  // Likewise, but only if the value is known for the group.
  void AddFor(const GroupSums& sums, Values values, double value);
  // Publishes a metric without labels of its own: for each group, if it is known there, the value of its sums.
  template <class ValueOf>
  void AddForEach(const Metric& metric, std::span<const GroupSums> groups, ValueOf&& value_of) {
    Begin(metric);
    for (const GroupSums& sums : groups) AddFor(sums, {}, static_cast<double>(value_of(sums)));
  }

  // Adds a histogram series if it is known for the group. `counts` are per bucket, not cumulative; the last one counts
  // values above the last bound.
  void AddHistogram(const GroupSums& sums, std::span<const double> bounds, std::span<const uint64_t> counts,
                    double sum);

 private:
  std::vector<prometheus::MetricFamily>& out_;
  std::vector<const Metric*>& declared_;
};

}  // namespace cow::collectors
