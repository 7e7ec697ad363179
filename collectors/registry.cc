// The table of collectors: one line each.
#include "collectors/registry.h"

#include <array>

namespace cow::collectors {
namespace {

constexpr std::array kRegistry{
    Registration{"cow", "Copy-on-write breaks, unsharing and forks", true, &MakeCow},
    Registration{"delayacct", "The kernel's count of copied pages", false, &MakeDelayacct},
    Registration{"faults", "Minor page faults, also of ended processes", true, &MakeFaults},
    Registration{"ksm", "Memory merged by KSM", false, &MakeKsm},
    Registration{"process", "Single processes with the largest values", false, &MakeProcess},
    Registration{"sharing", "Resident, shared, exposed and distinct memory", true, &MakeSharing},
    Registration{"smaps", "The kernel's own sums in smaps_rollup", false, &MakeSmaps, &MakeSmapsOfDenied},
    Registration{"thp", "Transparent huge pages", true, &MakeThp},
    Registration{"writers", "The code that breaks sharing, by page faults", false, &MakeWriters},
    Registration{"zero_page", "Memory mapped to the zero page", true, &MakeZeroPage},
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
