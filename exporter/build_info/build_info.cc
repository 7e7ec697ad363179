#include "exporter/build_info/build_info.h"

#include "revision.h"

namespace cow::exporter {

BuildInfo GetBuildInfo() { return {.version = COW_VERSION, .revision = COW_REVISION, .compiler = COW_COMPILER}; }

std::string FormatBuildInfo(const BuildInfo& build) {
  return "cow_exporter, version " + build.version + " (revision: " + build.revision +
         ")\n  compiler: " + build.compiler;
}

}  // namespace cow::exporter
