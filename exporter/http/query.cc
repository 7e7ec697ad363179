#include "exporter/http/query.h"

#include <algorithm>
#include <optional>

namespace cow::exporter {
namespace {

std::optional<unsigned> HexDigit(char c) {
  if (c >= '0' && c <= '9') return static_cast<unsigned>(c - '0');
  if (c >= 'a' && c <= 'f') return static_cast<unsigned>(c - 'a' + 10);
  if (c >= 'A' && c <= 'F') return static_cast<unsigned>(c - 'A' + 10);
  return std::nullopt;
}

config::Parsed<std::string> Decode(std::string_view text) {
  std::string decoded;
  decoded.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      decoded += text[i] == '+' ? ' ' : text[i];
      continue;
    }
    const auto high = i + 1 < text.size() ? HexDigit(text[i + 1]) : std::nullopt;
    const auto low = i + 2 < text.size() ? HexDigit(text[i + 2]) : std::nullopt;
    if (!high || !low) return tl::unexpected("bad percent-encoding in " + config::Quoted(text));
    decoded += static_cast<char>(*high * 16 + *low);
    i += 2;
  }
  return decoded;
}

bool Contains(std::span<const std::string_view> names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace

config::Parsed<std::vector<QueryParameter>> ParseQuery(std::string_view query) {
  std::vector<QueryParameter> parameters;
  while (!query.empty()) {
    const size_t end = std::min(query.find('&'), query.size());
    const std::string_view pair = query.substr(0, end);
    query.remove_prefix(std::min(end + 1, query.size()));
    if (pair.empty()) continue;
    const size_t equals = std::min(pair.find('='), pair.size());
    auto key = Decode(pair.substr(0, equals));
    auto value = Decode(pair.substr(std::min(equals + 1, pair.size())));
    if (!key) return tl::unexpected(std::move(key.error()));
    if (!value) return tl::unexpected(std::move(value.error()));
    parameters.emplace_back(std::move(*key), std::move(*value));
  }
  return parameters;
}

config::Parsed<CollectorFilter> ParseFilter(std::string_view query, std::span<const std::string_view> known,
                                            std::span<const std::string_view> enabled) {
  CollectorFilter filter;
  const auto parameters = ParseQuery(query);
  if (!parameters) return tl::unexpected(parameters.error());
  for (const auto& [key, value] : *parameters) {
    const bool is_collect = key == "collect[]";
    if (!is_collect && key != "exclude[]") continue;
    const auto kind = is_collect ? CollectorFilter::Kind::kOnly : CollectorFilter::Kind::kExcept;
    if (filter.kind != CollectorFilter::Kind::kAll && filter.kind != kind) {
      return tl::unexpected(std::string("collect[] and exclude[] exclude each other"));
    }
    if (!Contains(known, value)) return tl::unexpected("unknown collector " + config::Quoted(value));
    if (is_collect && !Contains(enabled, value)) {
      return tl::unexpected("the collector " + config::Quoted(value) + " is not enabled");
    }
    filter.kind = kind;
    filter.names.insert(value);
  }
  return filter;
}

}  // namespace cow::exporter
