#include "collectors/memory/scan/family_scan.h"

namespace cow::memory {

void DropScan(Family& family) {
  if (family.scan == nullptr) return;
  if (family.scan->end.IsHalfSettled()) {
    family.scan->end.steps->MakeAll();
    family.owed = std::move(family.scan->end.judgement);
  }
  family.scan.reset();
  family.membership_changed = true;
}

}  // namespace cow::memory
