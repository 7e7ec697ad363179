// The published result of a pass: the metrics in both text formats, a summary of the groups, and whether a pass has
// completed. Immutable, replaced as a whole. The texts lie in strings or in a mapped file (snapshot_file.h).
//
// Any thread. Keeps compressed texts once made.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "exporter/metrics_text/text_format.h"
#include "exporter/snapshot/collector_filter.h"

namespace cow::exporter {

// A group on the landing page. Unknown values are empty.
struct GroupSummary {
  std::string group;
  std::optional<double> processes;
  std::optional<double> exposure_bytes;
  std::optional<double> breaks_per_second;  // pages, over the last minute or the known part of it
};

// Everything about a snapshot but its texts.
struct SnapshotIndex {
  // A metric family and the byte offsets at which it ends in each text.
  struct Family {
    std::string collector;  // its source; empty: the exporter itself, never filtered
    std::array<size_t, kTextFormats> ends{};
  };

  std::vector<Family> families;
  std::vector<std::string> collectors;  // names of the enabled collectors
  std::vector<GroupSummary> groups;     // largest exposure first
  bool ready = false;                   // a pass has completed
  bool on_demand = false;               // each scrape runs a pass (interval 0)
};

class Snapshot {
 public:
  // `texts` by format; `memory` keeps them alive.
  using Texts = std::array<std::string_view, kTextFormats>;
  Snapshot(SnapshotIndex index, Texts texts, std::shared_ptr<const void> memory)
      : index_(std::move(index)), texts_(texts), memory_(std::move(memory)) {}

  [[nodiscard]] const SnapshotIndex& Index() const { return index_; }
  // All families.
  [[nodiscard]] std::string_view Text(TextFormat format) const { return texts_.at(static_cast<size_t>(format)); }
  // All families, compressed at the first call. Throws what Gzip throws.
  [[nodiscard]] const std::string& GzipText(TextFormat format) const;
  // The families that the filter selects.
  [[nodiscard]] std::string Text(TextFormat format, const CollectorFilter& filter) const;

 private:
  struct Compressed {
    std::mutex mutex;
    std::optional<std::string> text;  // set once
  };

  const SnapshotIndex index_;
  const Texts texts_;
  const std::shared_ptr<const void> memory_;
  mutable std::array<Compressed, kTextFormats> compressed_;
};

// Renders `families` in both formats. `index` is complete but for its families.
std::shared_ptr<const Snapshot> RenderSnapshot(const std::vector<PreparedFamily>& families, SnapshotIndex index);

}  // namespace cow::exporter
