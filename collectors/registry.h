// How each collector is made; the table itself is in registry.cc.
#pragma once

#include <memory>

#include "collectors/collector.h"

namespace cow::collectors {

std::unique_ptr<Collector> MakeCow(const procfs::PageGeometry& geometry);
std::unique_ptr<Collector> MakeFaults(const procfs::PageGeometry& geometry);
std::unique_ptr<Collector> MakeSharing(const procfs::PageGeometry& geometry);
std::unique_ptr<Collector> MakeThp(const procfs::PageGeometry& geometry);
std::unique_ptr<Collector> MakeZeroPage(const procfs::PageGeometry& geometry);

}  // namespace cow::collectors
