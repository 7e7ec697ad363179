// Decides in which order families are read: stalest values first. If a pass exceeds its budget, the least important
// families wait for later intervals.
//
// Families that were never read come first, larger ones before smaller ones. The others are ordered by the age of their
// values, weighted by the logarithm of their fault rate: a family that changes a thousand times as fast is read about
// ten times as soon, and a slow one never waits for ever.
//
// Pure; any thread.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <optional>

namespace cow::collectors {

// What the order depends on.
struct Staleness {
  std::optional<std::chrono::nanoseconds> age;  // of the family's values; empty: never read
  uint64_t faults = 0;                          // page faults of its members since then
  uint64_t resident_pages = 0;                  // of its members
  uint64_t family = 0;                          // id; breaks ties, older family first
};

// Returns the weighted age in seconds. Grows without bound with the age and with the faults.
inline double ReadingPriority(std::chrono::nanoseconds age, uint64_t faults) {
  // The clock can be set back, and an age of 0 gives no rate.
  const auto seconds =
      std::chrono::duration<double>(std::max<std::chrono::nanoseconds>(age, std::chrono::milliseconds{1}));
  return seconds.count() * (1 + std::log2(1 + static_cast<double>(faults) / seconds.count()));
}

// True if `a` is read before `b`. A strict order.
inline bool ReadBefore(const Staleness& a, const Staleness& b) {
  if (a.age.has_value() != b.age.has_value()) return !a.age;
  if (a.age) {
    const double of_a = ReadingPriority(*a.age, a.faults);
    const double of_b = ReadingPriority(*b.age, b.faults);
    if (of_a != of_b) return of_a > of_b;
  }
  if (a.resident_pages != b.resident_pages) return a.resident_pages > b.resident_pages;
  return a.family < b.family;
}

}  // namespace cow::collectors
