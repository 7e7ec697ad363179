// Parses the query of a URI (`collect[]=cow&exclude%5B%5D=thp`) and derives the filter of collectors from it. Pure, any
// thread.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "config/units.h"
#include "exporter/channel/messages.h"
#include "exporter/snapshot/collector_filter.h"

namespace cow::exporter {

using QueryParameter = std::pair<std::string, std::string>;  // key and value, decoded

// `query` is the text after the "?", as received: pairs between "&", percent-encoded, "+" for a space. Keys may repeat.
// Fails on a bad percent-encoding.
config::Parsed<std::vector<QueryParameter>> ParseQuery(std::string_view query);

// Reads `collect[]` (only these collectors; each must be enabled) and `exclude[]` (all but these; each must exist).
config::Parsed<CollectorFilter> ParseFilter(std::string_view query, std::span<const std::string> known,
                                            std::span<const std::string> enabled);

// Reads `pid` (required), `pages` (any value) and `mapping` (an address).
config::Parsed<ExplainQuery> ParseExplainQuery(std::string_view query);

}  // namespace cow::exporter
