// Makes metric families from a snapshot of sums. Reads nothing else. Pure.
#pragma once

#include <vector>

#include "collectors/engine/collector_set.h"
#include "collectors/engine/engine_sums.h"
#include "collectors/engine/engine_types.h"

namespace cow::collectors {

// Returns one entry per enabled collector and one for the engine itself, without empty metric families.
std::vector<CollectedFamilies> Publish(const EngineSums& sums, const CollectorSet& collectors);

}  // namespace cow::collectors
