// What a client asks for in the query of a URI (`collect[]=cow&exclude%5B%5D=thp`) and, from it, of which collectors it
// wants to see the metrics. Pure, any thread.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "config/units.h"
#include "exporter/scan/collector_filter.h"

namespace cow::exporter {

using QueryParameter = std::pair<std::string, std::string>;  // key and value, decoded

// `query` is what stands behind the "?", as it was sent: pairs between "&", percent-encoded, "+" for a space. Keys may
// be repeated. An error is one phrase: an encoding that is none.
config::Parsed<std::vector<QueryParameter>> ParseQuery(std::string_view query);

// From `collect[]` (only these; each must be enabled) and `exclude[]` (all but these; each must exist). An error is one
// phrase.
config::Parsed<CollectorFilter> FilterOf(std::string_view query, std::span<const std::string_view> known,
                                         std::span<const std::string_view> enabled);

}  // namespace cow::exporter
