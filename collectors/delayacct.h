// How the collector `delayacct` is made from a source of its own: for tests without a kernel.
#pragma once

#include <memory>

#include "collectors/netlink/taskstats.h"
#include "collectors/registry.h"

namespace cow::collectors {

// `source` may be none: the collector then publishes nothing, and says so.
std::unique_ptr<CollectorWithHooks> MakeDelayacct(const CollectorContext& context,
                                                  std::unique_ptr<netlink::Taskstats> source);

}  // namespace cow::collectors
