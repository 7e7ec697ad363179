// In which order families are read: first what the values suffer from most while it waits. Where a pass needs more than
// its budget, what is left for later intervals is then what matters least.
//
// A family that was never read comes before all others, the larger one first. Of the others what counts is the age of
// the values, weighted by how fast the family changes. The weight grows with the logarithm of that: what changes a
// thousand times as fast as another is read about ten times as soon, and no family, however slow, waits for ever.
//
// Pure; any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>

namespace cow::collectors {

// What is known of a family before it is read.
struct Staleness {
  std::optional<std::chrono::nanoseconds> age;  // of its values; empty: there are none
  uint64_t faults = 0;                          // of its members, since the values were read
  uint64_t resident_bytes = 0;                  // of its members
  uint64_t family = 0;                          // id: of two that are equal else, the older family is first
};

// In seconds, weighted: grows without bound with the age, and with the faults.
double ReadingPriority(std::chrono::nanoseconds age, uint64_t faults);

// Whether `a` is to be read before `b`: a strict order.
bool ReadBefore(const Staleness& a, const Staleness& b);

}  // namespace cow::collectors
