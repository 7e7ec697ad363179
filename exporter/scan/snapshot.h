// The published result of a pass: immutable, replaced as a whole. Renders each text at its first request and keeps it
// for later ones.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "collectors/engine/engine.h"
#include "exporter/metrics_text/text_format.h"
#include "exporter/scan/collector_filter.h"

namespace cow::exporter {

// Any thread.
class Snapshot {
 public:
  Snapshot() = default;
  // `collectors`: names of the enabled collectors.
  Snapshot(std::vector<PreparedFamily> families, std::vector<std::string_view> collectors,
           std::vector<collectors::FamilySummary> process_families = {})
      : families_(std::move(families)),
        collectors_(std::move(collectors)),
        process_families_(std::move(process_families)) {}

  [[nodiscard]] const std::vector<PreparedFamily>& Families() const { return families_; }
  [[nodiscard]] const std::vector<std::string_view>& Collectors() const { return collectors_; }
  [[nodiscard]] const std::vector<collectors::FamilySummary>& ProcessFamilies() const { return process_families_; }

  // All families.
  [[nodiscard]] const std::string& Text(TextFormat format) const { return RenderedFor(format).rendered.text; }
  // All families, compressed. Throws what Gzip throws.
  [[nodiscard]] const std::string& GzipText(TextFormat format) const;
  // The families that the filter selects.
  [[nodiscard]] std::string Text(TextFormat format, const CollectorFilter& filter) const;

 private:
  struct Rendered {
    std::once_flag once;
    RenderedText rendered;
    std::once_flag gzip_once;
    std::string gzip;
  };

  Rendered& RenderedFor(TextFormat format) const;

  std::vector<PreparedFamily> families_;
  std::vector<std::string_view> collectors_;
  std::vector<collectors::FamilySummary> process_families_;
  mutable std::array<Rendered, 2> rendered_;  // by format
};

}  // namespace cow::exporter
