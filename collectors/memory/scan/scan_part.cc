#include "collectors/memory/scan/scan_part.h"

namespace cow::memory {

std::vector<ScanPart*> PartsBySlot(std::span<ScanPart> parts) {
  std::vector<ScanPart*> by_slot;
  for (ScanPart& part : parts) {
    const MemberIndex slot = part.member->slot;
    if (slot.number() >= by_slot.size()) by_slot.resize(slot.number() + 1, nullptr);
    by_slot[slot.number()] = &part;
  }
  return by_slot;
}

}  // namespace cow::memory
