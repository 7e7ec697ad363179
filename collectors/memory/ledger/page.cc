#include "collectors/memory/ledger/page.h"

namespace cow::memory {

bool IsHugeRun(std::span<const PageEntry> entries) {
  const Pfn first = entries.front().Frame();
  if (!entries.front().IsPresent() || first == Pfn::None() || first.InRun(entries.size()) != 0) return false;
  if (entries.back().Frame() != first + (entries.size() - 1)) return false;
  for (size_t i = 1; i < entries.size(); ++i) {
    if (!entries[i].IsPresent() || entries[i].Frame() != first + i) return false;
  }
  return true;
}

}  // namespace cow::memory
