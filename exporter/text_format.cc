#include "exporter/text_format.h"

#include <prometheus/check_names.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <iterator>
#include <locale>
#include <set>
#include <sstream>
#include <string_view>
#include <utility>

namespace cow::exporter {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;

std::string EscapeHelp(std::string_view help) {
  std::string escaped;
  escaped.reserve(help.size());
  for (const char c : help) {
    if (c == '\\') {
      escaped += "\\\\";
    } else if (c == '\n') {
      escaped += "\\n";
    } else {
      escaped += c;
    }
  }
  return escaped;
}

// Keeps the metrics with valid labels and of each series the first.
void KeepValidSeries(MetricFamily& family, std::vector<std::string>& problems) {
  std::set<std::vector<ClientMetric::Label>> seen;
  std::vector<ClientMetric> kept;
  kept.reserve(family.metric.size());
  for (ClientMetric& metric : family.metric) {
    std::vector<ClientMetric::Label> labels = metric.label;
    std::sort(labels.begin(), labels.end());
    const auto same_name = [](const auto& a, const auto& b) { return a.name == b.name; };
    if (!std::all_of(labels.begin(), labels.end(), [](const auto& l) { return prometheus::CheckLabelName(l.name); }) ||
        std::adjacent_find(labels.begin(), labels.end(), same_name) != labels.end()) {
      problems.push_back("invalid labels in " + family.name);
    } else if (!seen.insert(std::move(labels)).second) {
      problems.push_back("duplicate series in " + family.name);
    } else {
      kept.push_back(std::move(metric));
    }
  }
  family.metric = std::move(kept);
}

}  // namespace

RenderedText RenderText(std::vector<MetricFamily> families) {
  RenderedText result;
  std::stable_sort(families.begin(), families.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  std::vector<MetricFamily> unique;
  unique.reserve(families.size());
  for (MetricFamily& family : families) {
    if (!prometheus::CheckMetricName(family.name)) {
      result.problems.emplace_back("invalid metric name");
    } else if (unique.empty() || unique.back().name != family.name) {
      unique.push_back(std::move(family));
    } else if (unique.back().type != family.type) {
      result.problems.push_back("two types of " + family.name);
    } else {
      std::move(family.metric.begin(), family.metric.end(), std::back_inserter(unique.back().metric));
    }
  }
  for (MetricFamily& family : unique) {
    KeepValidSeries(family, result.problems);
    family.help = EscapeHelp(family.help);
  }
  unique.erase(std::remove_if(unique.begin(), unique.end(), [](const auto& family) { return family.metric.empty(); }),
               unique.end());
  std::ostringstream out;
  out.imbue(std::locale::classic());
  prometheus::TextSerializer().Serialize(out, unique);
  result.text = std::move(out).str();
  return result;
}

}  // namespace cow::exporter
