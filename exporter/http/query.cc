#include "exporter/http/query.h"

#include <algorithm>
#include <cstdint>

#include "collectors/base/text.h"
#include "exporter/explain/arguments.h"

namespace cow::exporter {
namespace {

config::Parsed<std::string> Decode(std::string_view text) {
  std::string decoded;
  decoded.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      decoded += text[i] == '+' ? ' ' : text[i];
      continue;
    }
    const std::string_view digits = text.substr(i + 1, 2);
    const auto byte = text::ParseNumber<uint8_t>(digits, 16);
    if (!byte || digits.size() != 2) return tl::unexpected("bad percent-encoding in " + config::Quoted(text));
    decoded += static_cast<char>(*byte);
    i += 2;
  }
  return decoded;
}

bool Contains(std::span<const std::string> names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace

config::Parsed<std::vector<QueryParameter>> ParseQuery(std::string_view query) {
  std::vector<QueryParameter> parameters;
  while (!query.empty()) {
    std::string_view pair = text::CutAt(query, '&');
    if (pair.empty()) continue;
    auto key = Decode(text::CutAt(pair, '='));
    auto value = Decode(pair);
    if (!key) return tl::unexpected(std::move(key.error()));
    if (!value) return tl::unexpected(std::move(value.error()));
    parameters.emplace_back(std::move(*key), std::move(*value));
  }
  return parameters;
}

config::Parsed<CollectorFilter> ParseFilter(std::string_view query, std::span<const std::string> known,
                                            std::span<const std::string> enabled) {
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

config::Parsed<ExplainQuery> ParseExplainQuery(std::string_view query) {
  const auto parameters = ParseQuery(query);
  if (!parameters) return tl::unexpected(parameters.error());
  const auto argument = [&parameters](std::string_view name) {
    const auto found = std::find_if(parameters->begin(), parameters->end(),
                                    [name](const QueryParameter& parameter) { return parameter.first == name; });
    return found == parameters->end() ? nullptr : &found->second;
  };
  ExplainQuery result;
  const std::string* pid = argument("pid");
  if (pid == nullptr) return tl::unexpected(std::string("expected ?pid="));
  const auto parsed_pid = ParsePid(*pid);
  if (!parsed_pid) return tl::unexpected(parsed_pid.error());
  result.pid = *parsed_pid;
  result.pages = argument("pages") != nullptr;
  if (const std::string* mapping = argument("mapping")) {
    const auto address = ParseAddress(*mapping);
    if (!address) return tl::unexpected(address.error());
    result.mapping = *address;
  }
  return result;
}

}  // namespace cow::exporter
