// Writes metric families in the text formats of Prometheus: 0.0.4 and OpenMetrics 1.0.0.
//
// PrepareFamilies establishes what both formats require: unique families (a duplicate breaks the whole scrape), unique
// series, valid names and a stable order. RenderText only writes. Pure, any thread.
#pragma once

#include <prometheus/metric_family.h>

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "collectors/engine/engine.h"

namespace cow::exporter {

enum class TextFormat { kPrometheus, kOpenMetrics };
inline constexpr size_t kTextFormats = 2;

struct PreparedFamily {
  std::string_view collector;  // its source; empty: the exporter itself, never filtered
  prometheus::MetricFamily family;
};

struct PreparedFamilies {
  std::vector<PreparedFamily> families;
  std::vector<std::string> problems;  // one phrase per family or series that was dropped
};

// Sorts families by name, merges those of one name and drops empty ones.
PreparedFamilies PrepareFamilies(std::vector<collectors::CollectedFamilies> collected);

struct RenderedText {
  std::string text;
  std::vector<size_t> ends;  // byte offset at which each family ends; excludes LastLine
};

// OpenMetrics' `# EOF` line; empty for 0.0.4.
std::string_view LastLine(TextFormat format);

RenderedText RenderText(const std::vector<PreparedFamily>& families, TextFormat format);

}  // namespace cow::exporter
