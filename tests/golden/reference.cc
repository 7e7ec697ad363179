// Writes the reference of all metrics in Markdown. Publishes the metrics of a fixture host and prints their
// declarations.
#include <algorithm>
#include <cctype>
#include <cstddef>
#include <exception>
#include <iostream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "collectors/engine/engine.h"
#include "exporter/scan/self_metrics.h"
#include "tests/support/fixture_process.h"
#include "tests/support/pass_control.h"

namespace cow {
namespace {

using collectors::CollectedFamilies;
using collectors::CollectorInfo;
using collectors::Known;
using collectors::Metric;
using collectors::MetricLabel;

constexpr size_t kColumns = 119;
constexpr size_t kExampleColumns = 140;  // examples are not wrapped

std::vector<CollectedFamilies> Declare() {
  test::FixtureHost host;
  host.Add(100);
  host.Sync();
  collectors::EngineOptions options;
  for (const CollectorInfo& info : collectors::AvailableCollectors()) options.collectors.emplace_back(info.name);
  collectors::Engine engine(host.Root(), options);
  test::NoControl control;
  if (!engine.RunPass(control)) throw std::runtime_error("the pass was not completed");
  std::vector<CollectedFamilies> collected = engine.CollectByCollector();
  CollectedFamilies& own = collected.emplace_back();
  collectors::MetricWriter writer(own.families, own.declared);
  exporter::SelfMetrics({}, true, {}, [] { return 0; }).Append({}, writer);
  return collected;
}

std::vector<std::string_view> Words(std::string_view text) {
  std::vector<std::string_view> words;
  while (!text.empty()) {
    const size_t end = std::min(text.find(' '), text.size());
    if (end != 0) words.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return words;
}

// Marks names of the kernel, of metrics and of configuration keys as code.
std::string AsCode(std::string_view word) {
  const size_t end = word.find_last_not_of(".,;:)") + 1;
  const size_t begin = word.starts_with('(') ? 1 : 0;
  const std::string_view name = word.substr(begin, end - begin);
  const bool code = name.find('_') != std::string_view::npos || name.find('=') != std::string_view::npos ||
                    name.find("->") != std::string_view::npos || name.starts_with('/') || name.starts_with("--") ||
                    name.starts_with("memory.");
  const bool marked = name.find('`') != std::string_view::npos || name.find("](") != std::string_view::npos;
  if (!code || marked) return std::string(word);
  return std::string(word.substr(0, begin)) + "`" + std::string(name) + "`" + std::string(word.substr(end));
}

// Writes `text` in lines of at most kColumns bytes.
void Write(std::string_view first, std::string_view rest_indent, std::string_view text) {
  std::string line(first);
  bool empty = true;
  for (const std::string_view word : Words(text)) {
    const std::string marked = AsCode(word);
    if (!empty && line.size() + 1 + marked.size() > kColumns) {
      std::cout << line << "\n";
      line = rest_indent;
      empty = true;
    }
    if (!empty) line += ' ';
    line += marked;
    empty = false;
  }
  std::cout << line << "\n";
}

std::string_view AbsentUnlessKnown(Known known) {
  switch (known) {
    case Known::kAlways:
      return "";
    case Known::kPageTables:
      return "If all processes of the group are in mode `no_pagemap` or `none`.";
    case Known::kFrames:
      return "If a process of the group is in mode `no_frames`, or all are in `no_pagemap` or `none`.";
    case Known::kScan:
      return "Before Linux 6.7, and if all processes of the group are in mode `no_pagemap` or `none`.";
    case Known::kFramesAndScan:
      return "Before Linux 6.7, and if a process of the group is in mode `no_frames`, or all are in `no_pagemap` or "
             "`none`.";
    case Known::kFramesOrScan:
      return "If all processes of the group are in mode `no_pagemap` or `none`; before Linux 6.7 also if one is in "
             "`no_frames`.";
    case Known::kFramesAndMapCounts:
      return "If a process of the group is in mode `no_frames`, if all are in `no_pagemap` or `none`, and if "
             "`cow_exporter_capability{feature=\"page_mapcounts\"}` is 0.";
    case Known::kFramesOrMapCounts:
      return "If all processes of the group are in mode `no_pagemap` or `none`. If "
             "`cow_exporter_capability{feature=\"page_mapcounts\"}` is 0, also if one is in `no_frames`.";
  }
  return "";
}

std::string_view TypeName(prometheus::MetricType type) {
  switch (type) {
    case prometheus::MetricType::Counter:
      return "Counter";
    case prometheus::MetricType::Histogram:
      return "Histogram";
    default:
      return "Gauge";
  }
}

// Throws if the unit in the name differs from the declared unit.
void CheckUnit(const Metric& metric) {
  std::string_view name = metric.name;
  constexpr std::string_view kTotal = "_total";
  if (name.ends_with(kTotal)) name.remove_suffix(kTotal.size());
  for (const std::string_view unit : {"bytes", "seconds", "ratio", "processes", "families"}) {
    if (name.ends_with(std::string("_") + std::string(unit)) != metric.unit.starts_with(unit) && unit != "processes") {
      throw std::runtime_error(std::string(metric.name) + " is declared in " + std::string(metric.unit));
    }
  }
  if ((metric.type == prometheus::MetricType::Counter) != metric.name.ends_with(kTotal)) {
    throw std::runtime_error(std::string(metric.name) + ": only names of counters end in _total");
  }
}

std::string LabelText(const MetricLabel& label) {
  std::string text = "`" + std::string(label.name) + "`";
  if (label.values.empty()) return text + " (" + std::string(label.meaning) + ")";
  std::string_view separator = "=";
  for (const std::string_view value : label.values) {
    text += std::string(separator) + "`" + std::string(value) + "`";
    separator = "\\|";
  }
  return text;
}

void WriteMetric(const Metric& metric) {
  CheckUnit(metric);
  std::cout << "\n### `" << metric.name << "`\n\n";
  Write("", "", metric.help);
  std::cout << "\n";
  std::string kind(TypeName(metric.type));
  if (!metric.unit.empty()) kind += ", in " + std::string(metric.unit);
  std::string labels = metric.of_groups ? "`group`" : "";
  for (const MetricLabel& label : metric.Labels()) labels += (labels.empty() ? "" : ", ") + LabelText(label);
  Write("- ", "  ", kind + (labels.empty() ? ". No labels." : ". Labels: " + labels + "."));
  if (!metric.source.empty()) Write("- Known from: ", "  ", metric.source);
  std::string absent(AbsentUnlessKnown(metric.known));
  if (!metric.absent.empty()) absent += (absent.empty() ? "" : " ") + std::string(metric.absent);
  if (!absent.empty()) Write("- Absent: ", "  ", absent);
  if (metric.query.empty()) return;
  const std::string query = "- Example: `" + std::string(metric.query) + "`";
  if (query.size() > kExampleColumns) throw std::runtime_error(std::string(metric.name) + ": the example is too long");
  std::cout << query << "\n";
}

struct Section {
  std::string title;
  std::string about;
  std::vector<const Metric*> metrics;
};

std::vector<Section> Sections() {
  const std::vector<CollectedFamilies> collected = Declare();
  std::vector<Section> sections;
  for (const CollectorInfo& info : collectors::AvailableCollectors()) {
    Section& section = sections.emplace_back();
    section.title = "Collector `" + std::string(info.name) + "`";
    section.about = std::string(info.help) + "; " + (info.enabled_by_default ? "on" : "off") + " by default";
    for (const CollectedFamilies& made : collected) {
      if (made.collector == info.name) section.metrics = made.declared;
    }
    if (section.metrics.empty()) throw std::runtime_error(section.title + " declares no metric");
  }
  Section groups{"Groups", "properties of the groups, and how completely they were read; always on", {}};
  Section self{"The exporter", "the exporter's own cost, rights and configuration; always on", {}};
  for (const CollectedFamilies& made : collected) {
    if (!made.collector.empty()) continue;
    for (const Metric* metric : made.declared) (metric->of_groups ? groups : self).metrics.push_back(metric);
  }
  sections.push_back(std::move(groups));
  sections.push_back(std::move(self));
  return sections;
}

void WriteReference() {
  const std::vector<Section> sections = Sections();
  std::cout
      << "<!-- Generated by tests/golden/reference_test.py --update from the code's declarations. -->\n\n# Metrics\n\n";
  Write(
      "", "",
      "Every metric that cow_exporter publishes, by collector. Memory of groups is counted in whole pages. A sum \"as "
      "each process maps it\" counts a page once for each process that maps it; exposure and footprint count physical "
      "pages. Counters start at 0 at a group's first scan and keep their value when processes exit; they do not "
      "include what happened before the exporter started. A metric has no series while its value is unknown; that does "
      "not mean 0.");
  std::cout << "\n";
  Write(
      "", "",
      "[How exact is it?](HOW_EXACT.md) describes what these metrics can and can't show by situation, mode and kernel, "
      "with figures from tests. Modes are those of cow_group_mode.");
  std::cout << "\n| section | | metrics |\n|---|---|---|\n";
  for (const Section& section : sections) {
    std::cout << "| " << section.title << " | " << section.about << " | ";
    std::string_view separator;
    for (const Metric* metric : section.metrics) {
      std::cout << separator << "[`" << metric->name << "`](#" << metric->name << ")";
      separator = ", ";
    }
    std::cout << " |\n";
  }
  for (const Section& section : sections) {
    std::cout << "\n## " << section.title << "\n\n";
    std::string about = section.about + ".";
    about.front() = static_cast<char>(std::toupper(static_cast<unsigned char>(about.front())));
    Write("", "", about);
    for (const Metric* metric : section.metrics) WriteMetric(*metric);
  }
}

}  // namespace
}  // namespace cow

int main() {
  try {
    cow::WriteReference();
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
  return std::cout.flush() ? 0 : 1;
}
