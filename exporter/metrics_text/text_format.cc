#include "exporter/metrics_text/text_format.h"

#include <prometheus/check_names.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <iterator>
#include <limits>
#include <set>
#include <utility>

namespace cow::exporter {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

// Drops metrics with invalid labels and duplicates of a series.
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

void AppendEscaped(std::string_view text, bool with_quotes, std::string& out) {
  for (const char c : text) {
    if (c == '\n') {
      out += "\\n";
    } else if (c == '\\' || (c == '"' && with_quotes)) {
      out += '\\';
      out += c;
    } else {
      out += c;
    }
  }
}

// Room for any double and any 64-bit number.
using NumberBuffer = std::array<char, 32>;

template <class Number>
void AppendNumber(Number number, std::string& out) {
  NumberBuffer buffer;
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), number).ptr;
  out.append(buffer.data(), end);
}

// Writes infinity and NaN. Returns false for any other number.
bool AppendSpecial(double value, std::string& out) {
  if (std::isfinite(value)) return false;
  out += std::isnan(value) ? "NaN" : value > 0 ? "+Inf" : "-Inf";
  return true;
}

void AppendValue(double value, std::string& out) {
  constexpr double kExact = 9007199254740992.0;  // 2^53: write whole numbers up to it without an exponent
  if (AppendSpecial(value, out)) return;
  if (std::abs(value) <= kExact && std::trunc(value) == value) {
    AppendNumber(static_cast<int64_t>(value), out);
  } else {
    AppendNumber(value, out);
  }
}

// OpenMetrics' canonical form of numbers in labels: Go's %g, with ".0" after whole numbers.
void AppendCanonical(double value, std::string& out) {
  constexpr int kMinExponent = -4;
  constexpr int kEndExponent = 6;  // outside of this range, write an exponent
  if (AppendSpecial(value, out)) return;
  NumberBuffer buffer;
  char* const begin = buffer.data();
  const char* const end = std::to_chars(begin, begin + buffer.size(), value, std::chars_format::scientific).ptr;
  const std::string_view text(begin, static_cast<size_t>(end - begin));
  const int exponent = std::atoi(std::string(text.substr(text.find('e') + 1)).c_str());
  if (exponent < kMinExponent || exponent >= kEndExponent) {
    out += text;
    return;
  }
  const size_t before = out.size();
  out.append(begin, std::to_chars(begin, begin + buffer.size(), value, std::chars_format::fixed).ptr);
  if (out.find('.', before) == std::string::npos) out += ".0";
}

// Writes families one after another.
class Writer {
 public:
  Writer(TextFormat format, std::string& out) : open_metrics_(format == TextFormat::kOpenMetrics), out_(out) {}

  void Write(const MetricFamily& family) {
    name_ = family.name;
    if (open_metrics_ && family.type == MetricType::Counter) RemoveSuffix(kTotal);
    WriteHead(family);
    for (const ClientMetric& metric : family.metric) WriteMetric(family.type, metric);
  }

 private:
  static constexpr std::string_view kTotal = "_total";

  bool EndsWith(std::string_view suffix) const {
    return name_.size() > suffix.size() && name_.substr(name_.size() - suffix.size()) == suffix;
  }

  void RemoveSuffix(std::string_view suffix) {
    if (EndsWith(suffix)) name_.remove_suffix(suffix.size());
  }

  std::string_view TypeName(MetricType type) const {
    switch (type) {
      case MetricType::Counter:
        return "counter";
      case MetricType::Gauge:
        return "gauge";
      case MetricType::Histogram:
        return "histogram";
      default:
        return open_metrics_ ? "unknown" : "untyped";
    }
  }

  void Comment(std::string_view keyword) { out_.append("# ").append(keyword).append(" ").append(name_).append(" "); }

  void WriteHead(const MetricFamily& family) {
    if (!family.help.empty()) {
      Comment("HELP");
      AppendEscaped(family.help, open_metrics_, out_);
      out_ += '\n';
    }
    Comment("TYPE");
    out_.append(TypeName(family.type)).append("\n");
    if (!open_metrics_) return;
    for (const std::string_view suffix : {"_bytes", "_seconds", "_ratio"}) {
      if (!EndsWith(suffix)) continue;
      Comment("UNIT");
      out_.append(suffix.substr(1)).append("\n");
    }
  }

  void WriteMetric(MetricType type, const ClientMetric& metric) {
    labels_.clear();
    for (const ClientMetric::Label& label : metric.label) AppendLabel(label.name, label.value);
    switch (type) {
      case MetricType::Counter:
        Sample(open_metrics_ ? kTotal : "", metric.counter.value);
        break;
      case MetricType::Gauge:
        Sample("", metric.gauge.value);
        break;
      case MetricType::Histogram:
        WriteHistogram(metric.histogram);
        break;
      default:
        Sample("", metric.untyped.value);
    }
  }

  void WriteHistogram(const ClientMetric::Histogram& histogram) {
    Sample("_count", histogram.sample_count);
    Sample("_sum", histogram.sample_sum);
    double last = 0;
    for (const ClientMetric::Bucket& bucket : histogram.bucket) {
      SampleAt("_bucket", "le", bucket.upper_bound, bucket.cumulative_count);
      last = bucket.upper_bound;
    }
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    if (last != kInfinity) SampleAt("_bucket", "le", kInfinity, histogram.sample_count);
  }

  void AppendLabel(std::string_view name, std::string_view value) {
    if (!labels_.empty()) labels_ += ',';
    labels_.append(name).append("=\"");
    AppendEscaped(value, true, labels_);
    labels_ += '"';
  }

  void Append(double value) { AppendValue(value, out_); }
  void Append(uint64_t value) { AppendNumber(value, out_); }

  template <class Value>
  void Sample(std::string_view suffix, Value value) {
    out_.append(name_).append(suffix);
    if (!labels_.empty()) out_.append("{").append(labels_).append("}");
    out_ += ' ';
    Append(value);
    out_ += '\n';
  }

  // Writes a sample with an additional numeric label.
  template <class Value>
  void SampleAt(std::string_view suffix, std::string_view label, double place, Value value) {
    const size_t before = labels_.size();
    std::string number;
    if (open_metrics_) {
      AppendCanonical(place, number);
    } else {
      AppendValue(place, number);
    }
    AppendLabel(label, number);
    Sample(suffix, value);
    labels_.resize(before);
  }

  const bool open_metrics_;
  std::string& out_;
  std::string_view name_;  // without the suffix that OpenMetrics adds to each sample
  std::string labels_;     // of the current metric
};

}  // namespace

PreparedFamilies PrepareFamilies(std::vector<collectors::CollectedFamilies> collected) {
  PreparedFamilies result;
  std::vector<PreparedFamily> all;
  for (collectors::CollectedFamilies& made : collected) {
    for (MetricFamily& family : made.families) all.push_back({made.collector, std::move(family)});
  }
  std::stable_sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.family.name < b.family.name; });
  std::vector<PreparedFamily>& unique = result.families;
  unique.reserve(all.size());
  for (PreparedFamily& next : all) {
    MetricFamily& family = next.family;
    if (!prometheus::CheckMetricName(family.name)) {
      result.problems.emplace_back("invalid metric name");
    } else if (family.type == MetricType::Summary) {
      result.problems.push_back("no text form for the summary " + family.name);
    } else if (unique.empty() || unique.back().family.name != family.name) {
      unique.push_back(std::move(next));
    } else if (unique.back().family.type != family.type) {
      result.problems.push_back("two types of " + family.name);
    } else if (unique.back().collector != next.collector) {
      result.problems.push_back("two collectors of " + family.name);
    } else {
      std::move(family.metric.begin(), family.metric.end(), std::back_inserter(unique.back().family.metric));
    }
  }
  for (PreparedFamily& kept : unique) KeepValidSeries(kept.family, result.problems);
  std::erase_if(unique, [](const PreparedFamily& kept) { return kept.family.metric.empty(); });
  return result;
}

std::string_view LastLine(TextFormat format) { return format == TextFormat::kOpenMetrics ? "# EOF\n" : ""; }

RenderedText RenderText(const std::vector<PreparedFamily>& families, TextFormat format) {
  constexpr size_t kUsualBytes = 80;  // of a series; growing a large text costs as much as writing it
  RenderedText result;
  result.ends.reserve(families.size());
  size_t series = 0;
  for (const PreparedFamily& prepared : families) series += prepared.family.metric.size();
  result.text.reserve(series * kUsualBytes);
  Writer writer(format, result.text);
  for (const PreparedFamily& prepared : families) {
    writer.Write(prepared.family);
    result.ends.push_back(result.text.size());
  }
  result.text += LastLine(format);
  return result;
}

}  // namespace cow::exporter
