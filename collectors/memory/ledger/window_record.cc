#include "collectors/memory/ledger/window_record.h"

#include <algorithm>

namespace cow::memory {

std::span<uint64_t> WindowRecord::Held(Slot slot) {
  if (slot >= SlotsEnd()) held.resize((slot + size_t{1}) * words);
  return {held.data() + slot * words, words};
}

bool WindowRecord::HoldsAnything() const { return !extras.empty() || !away.empty() || AnyBit(held); }

std::vector<Slot> WindowRecord::TakePage(size_t page) {
  std::vector<Slot> holders;
  holders.reserve(SlotsEnd());
  for (Slot slot = 0; slot < SlotsEnd(); ++slot) {
    const std::span<uint64_t> bits = Held(slot);
    if (!TestBit(bits, page)) continue;
    holders.push_back(slot);
    ClearBit(bits, page);
  }
  frames[page] = kNoFrame;
  return holders;
}

}  // namespace cow::memory
