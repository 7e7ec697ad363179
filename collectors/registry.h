// How each collector is made; the table itself is in registry.cc.
#pragma once

#include <memory>

#include "collectors/collector.h"

namespace cow::collectors {

std::unique_ptr<Collector> MakeCow(const CollectorContext& context);
std::unique_ptr<Collector> MakeDelayacct(const CollectorContext& context);
std::unique_ptr<Collector> MakeFaults(const CollectorContext& context);
std::unique_ptr<Collector> MakeKsm(const CollectorContext& context);
std::unique_ptr<Collector> MakeProcess(const CollectorContext& context);
std::unique_ptr<Collector> MakeSharing(const CollectorContext& context);
std::unique_ptr<Collector> MakeSmaps(const CollectorContext& context);
std::unique_ptr<Collector> MakeSmapsOfDenied(const CollectorContext& context);
std::unique_ptr<Collector> MakeThp(const CollectorContext& context);
std::unique_ptr<Collector> MakeZeroPage(const CollectorContext& context);

}  // namespace cow::collectors
