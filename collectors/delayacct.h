// Makes the collector `delayacct` with a given source of taskstats, so that tests need no kernel.
#pragma once

#include <memory>

#include "collectors/netlink/taskstats.h"
#include "collectors/registry.h"

namespace cow::collectors {

// `source` may be null: the collector then publishes no series.
std::unique_ptr<CollectorWithHooks> MakeDelayacct(const CollectorContext& context,
                                                  std::unique_ptr<netlink::Taskstats> source);

}  // namespace cow::collectors
