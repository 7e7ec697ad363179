#include "collectors/memory/ledger/window_record.h"

namespace cow::memory {

BitmapSpan WindowRecord::Held(MemberIndex slot) {
  if (slot >= SlotsEnd()) held.Resize(slot.number() + 1);
  return held.At(slot.number());
}

bool WindowRecord::HoldsAnything() const { return !extras.empty() || !away.empty() || held.Any(); }

std::vector<MemberIndex> WindowRecord::TakePage(size_t page) {
  std::vector<MemberIndex> holders;
  holders.reserve(SlotsEnd().number());
  for (MemberIndex slot; slot < SlotsEnd(); ++slot) {
    const BitmapSpan bits = Held(slot);
    if (!bits.Test(page)) continue;
    holders.push_back(slot);
    bits.Clear(page);
  }
  frames[page] = Pfn::None();
  return holders;
}

}  // namespace cow::memory
