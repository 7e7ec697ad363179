// From a snapshot of sums to metric families. Reads nothing else.
#pragma once

#include <vector>

#include "collectors/engine/collector_set.h"
#include "collectors/engine/engine_sums.h"
#include "collectors/engine/engine_types.h"

namespace cow::collectors {

// By what made them: an entry for each enabled collector and one of the engine itself, without families that are empty.
std::vector<CollectedFamilies> Publish(const EngineSums& sums, const CollectorSet& collectors);

}  // namespace cow::collectors
