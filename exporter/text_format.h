// Metric families to Prometheus' text format 0.0.4.
//
// prometheus-cpp's serializer does the format. What it leaves open is done here: line breaks and backslashes in HELP,
// unique families (two of one name break a whole scrape), unique series, valid names, a stable order. Pure, any thread.
#pragma once

#include <prometheus/metric_family.h>

#include <string>
#include <vector>

namespace cow::exporter {

struct RenderedText {
  std::string text;
  std::vector<std::string> problems;  // one phrase for each thing that was left out because it would break the scrape
};

// Families are sorted by name and those of one name merged; empty ones are left out.
RenderedText RenderText(std::vector<prometheus::MetricFamily> families);

}  // namespace cow::exporter
