#include "collectors/memory/ledger/window_record.h"

#include <algorithm>

namespace cow::memory {

BitmapSpan WindowRecord::Held(Slot slot) {
  if (slot >= SlotsEnd()) held.Resize(slot + size_t{1});
  return held.At(slot);
}

bool WindowRecord::HoldsAnything() const { return !extras.empty() || !away.empty() || held.Any(); }

std::vector<Slot> WindowRecord::TakePage(size_t page) {
  std::vector<Slot> holders;
  holders.reserve(SlotsEnd());
  for (Slot slot = 0; slot < SlotsEnd(); ++slot) {
    const BitmapSpan bits = Held(slot);
    if (!bits.Test(page)) continue;
    holders.push_back(slot);
    bits.Clear(page);
  }
  frames[page] = Pfn::None();
  return holders;
}

}  // namespace cow::memory
