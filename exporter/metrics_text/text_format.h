// Metric families to the text formats of Prometheus: 0.0.4 and OpenMetrics 1.0.0.
//
// PrepareFamilies sees to what either format takes for granted: unique families (two of one name break a whole scrape),
// unique series, valid names, a stable order. RenderText only writes. Pure, any thread.
#pragma once

#include <prometheus/metric_family.h>

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "collectors/engine/engine.h"

namespace cow::exporter {

enum class TextFormat { kPrometheus, kOpenMetrics };

struct PreparedFamily {
  std::string_view collector;  // that made it; empty: none, it is always shown
  prometheus::MetricFamily family;
};

struct PreparedFamilies {
  std::vector<PreparedFamily> families;
  std::vector<std::string> problems;  // one phrase for each thing that was left out because it would break the scrape
};

// Families are sorted by name and those of one name merged; empty ones are left out.
PreparedFamilies PrepareFamilies(std::vector<collectors::CollectedFamilies> collected);

struct RenderedText {
  std::string text;
  std::vector<size_t> ends;  // of each family's part, bytes from the start; OpenMetrics' last line is behind them all
};

// The last line of OpenMetrics; the other format has none.
std::string_view LastLine(TextFormat format);

RenderedText RenderText(const std::vector<PreparedFamily>& families, TextFormat format);

}  // namespace cow::exporter
