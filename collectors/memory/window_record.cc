#include "collectors/memory/window_record.h"

#include <algorithm>

namespace cow::memory {

std::span<const uint64_t> WindowRecord::Held(Slot slot) const {
  if (slot >= SlotsEnd()) return {};
  return {held.data() + slot * words, words};
}

std::span<uint64_t> WindowRecord::Held(Slot slot) {
  if (slot >= SlotsEnd()) held.resize((slot + size_t{1}) * words);
  return {held.data() + slot * words, words};
}

std::vector<Slot> WindowRecord::TakePage(size_t page) {
  std::vector<Slot> holders;
  for (Slot slot = 0; slot < SlotsEnd(); ++slot) {
    const std::span<uint64_t> bits = Held(slot);
    if (!TestBit(bits, page)) continue;
    holders.push_back(slot);
    ClearBit(bits, page);
  }
  frames[page] = kNoFrame;
  return holders;
}

bool WindowRecord::HoldsAnything() const {
  return !extras.empty() || !away.empty() ||
         std::any_of(held.begin(), held.end(), [](uint64_t word) { return word != 0; });
}

bool WindowRecord::Concerns(Slot slot) const {
  return CountBits(Held(slot)) != 0 ||
         std::any_of(extras.begin(), extras.end(),
                     [slot](const Extra& extra) {
                       return std::find(extra.holders.begin(), extra.holders.end(), slot) != extra.holders.end();
                     }) ||
         std::any_of(away.begin(), away.end(), [slot](const Away& a) { return a.slot == slot; });
}

uint64_t WindowRecord::MemoryBytes() const {
  uint64_t total = sizeof(uint64_t) + sizeof(WindowRecord) + frames.capacity() * sizeof(uint64_t) +
                   held.capacity() * sizeof(uint64_t) + extras.capacity() * sizeof(Extra) +
                   away.capacity() * sizeof(Away);
  for (const Extra& extra : extras) total += extra.holders.capacity() * sizeof(Slot);
  return total;
}

}  // namespace cow::memory
