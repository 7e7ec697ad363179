#include "exporter/metrics_text/negotiation.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstddef>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "collectors/base/text.h"

namespace cow::exporter {
namespace {

using text::Trim;

std::string Lower(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return lower;
}

// Splits at separators outside of double quotes and trims the parts.
std::vector<std::string_view> Split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  size_t begin = 0;
  bool quoted = false;
  for (size_t i = 0; i < text.size(); ++i) {
    if (quoted && text[i] == '\\') {
      ++i;
    } else if (text[i] == '"') {
      quoted = !quoted;
    } else if (text[i] == separator && !quoted) {
      parts.push_back(Trim(text.substr(begin, i - begin)));
      begin = i + 1;
    }
  }
  parts.push_back(Trim(text.substr(begin)));
  return parts;
}

// The value of a token or of a quoted string.
std::string Unquote(std::string_view text) {
  if (text.size() < 2 || text.front() != '"' || text.back() != '"') return std::string(text);
  std::string plain;
  text = text.substr(1, text.size() - 2);
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 1 < text.size()) ++i;
    plain += text[i];
  }
  return plain;
}

// A q-value (0 to 1, at most three decimals) in thousandths.
std::optional<int> ParseQuality(std::string_view text) {
  if (text.empty() || (text[0] != '0' && text[0] != '1') || text.size() > 5) return std::nullopt;
  int quality = text[0] == '1' ? 1000 : 0;
  if (text.size() > 1 && text[1] != '.') return std::nullopt;
  int weight = 100;
  for (const char c : text.substr(std::min<size_t>(2, text.size()))) {
    if (c < '0' || c > '9') return std::nullopt;
    quality += (c - '0') * weight;
    weight /= 10;
  }
  if (quality > 1000) return std::nullopt;
  return quality;
}

// One element of either header.
struct Element {
  std::string name;  // lower case
  std::vector<std::pair<std::string, std::string>> parameters;
  int quality = 1000;
};

std::optional<Element> ParseElement(std::string_view text) {
  const std::vector<std::string_view> parts = Split(text, ';');
  Element element;
  element.name = Lower(parts.front());
  if (element.name.empty()) return std::nullopt;
  for (size_t i = 1; i < parts.size(); ++i) {
    const size_t equals = parts[i].find('=');
    if (equals == std::string_view::npos) continue;
    const std::string name = Lower(Trim(parts[i].substr(0, equals)));
    std::string value = Unquote(Trim(parts[i].substr(equals + 1)));
    if (name == "q") {
      const auto quality = ParseQuality(value);
      if (!quality) return std::nullopt;
      element.quality = *quality;
      break;  // extensions follow
    }
    element.parameters.emplace_back(name, std::move(value));
  }
  return element;
}

std::vector<Element> ParseList(std::string_view header) {
  std::vector<Element> elements;
  for (const std::string_view part : Split(header, ',')) {
    if (auto element = ParseElement(part)) elements.push_back(std::move(*element));
  }
  return elements;
}

// A format that the exporter can write.
struct Offer {
  TextFormat format;
  std::string_view type;
  std::string_view version;
  const char* content_type;
};

// The first is the default.
constexpr std::array kOffers{
    Offer{TextFormat::kPrometheus, "text/plain", "0.0.4", "text/plain; version=0.0.4; charset=utf-8"},
    Offer{TextFormat::kOpenMetrics, "application/openmetrics-text", "1.0.0",
          "application/openmetrics-text; version=1.0.0; charset=utf-8"},
    Offer{TextFormat::kOpenMetrics, "application/openmetrics-text", "0.0.1",
          "application/openmetrics-text; version=0.0.1; charset=utf-8"},
};

// How exactly a range names the offer; 0 for no match. Ignores unknown parameters such as Prometheus 3's `escaping`:
// our metric names need no escaping.
int Specificity(const Element& range, const Offer& offer) {
  if (range.name == "*/*" || range.name == "*") return 1;
  if (range.name == std::string(offer.type.substr(0, offer.type.find('/'))) + "/*") return 2;
  if (range.name != offer.type) return 0;
  int specificity = 3;
  for (const auto& [name, value] : range.parameters) {
    const bool is_version = name == "version";
    if (!is_version && name != "charset") continue;
    if (Lower(value) != (is_version ? offer.version : "utf-8")) return 0;
    ++specificity;
  }
  return specificity;
}

}  // namespace

NegotiatedFormat NegotiateFormat(std::optional<std::string_view> accept) {
  const std::vector<Element> ranges = ParseList(accept.value_or("*/*"));
  const Offer* best = &kOffers.front();
  // Highest quality, then first in the header, then first of the offers.
  std::tuple<int, ptrdiff_t> best_rank{0, 0};
  for (const Offer& offer : kOffers) {
    int specificity = 0;
    std::tuple<int, ptrdiff_t> rank{0, 0};
    for (size_t i = 0; i < ranges.size(); ++i) {
      const int here = Specificity(ranges[i], offer);
      if (here <= specificity) continue;
      specificity = here;
      rank = {ranges[i].quality, -static_cast<ptrdiff_t>(i)};
    }
    if (std::get<0>(rank) > 0 && (std::get<0>(best_rank) == 0 || rank > best_rank)) {
      best = &offer;
      best_rank = rank;
    }
  }
  return {best->format, best->content_type};
}

bool NegotiateGzip(std::optional<std::string_view> accept_encoding) {
  std::optional<int> gzip;
  std::optional<int> identity;
  std::optional<int> any;
  for (const Element& element : ParseList(accept_encoding.value_or(""))) {
    if (element.name == "gzip" || element.name == "x-gzip") gzip = element.quality;
    if (element.name == "identity") identity = element.quality;
    if (element.name == "*") any = element.quality;
  }
  const int wanted = gzip.value_or(any.value_or(0));
  return wanted > 0 && wanted >= identity.value_or(0);
}

}  // namespace cow::exporter
