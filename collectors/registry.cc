// The table of collectors: one line each.
#include "collectors/registry.h"

#include <array>

namespace cow::collectors {
namespace {

constexpr std::array kRegistry{
    Registration{"cow", "copy-on-write breaks, unsharing and forks", true, &MakeCow},
    Registration{"delayacct", "the kernel's own count of copied pages (taskstats)", false, &MakeDelayacct},
    Registration{"faults", "minor page faults of present and past processes", true, &MakeFaults},
    Registration{"ksm", "memory merged by KSM", false, &MakeKsm},
    Registration{"process", "the processes with the most exposure, private memory or breaks", false, &MakeProcess},
    Registration{"sharing", "resident, shared, exposed and distinct memory", true, &MakeSharing},
    Registration{"smaps", "the kernel's own memory sums (smaps_rollup)", false, &MakeSmaps, &MakeSmapsOfDenied},
    Registration{"thp", "transparent huge pages", true, &MakeThp},
    Registration{"zero_page", "memory mapped to the zero page", true, &MakeZeroPage},
};

}  // namespace

std::span<const Registration> Registry() { return kRegistry; }

std::vector<CollectorInfo> AvailableCollectors() {
  std::vector<CollectorInfo> infos;
  infos.reserve(kRegistry.size());
  for (const Registration& entry : kRegistry) infos.push_back({entry.name, entry.help, entry.enabled_by_default});
  return infos;
}

}  // namespace cow::collectors
