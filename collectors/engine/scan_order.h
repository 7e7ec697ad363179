// Decides in which order families are read: stalest values first. If a pass exceeds its budget, the least important
// families wait for later intervals.
//
// Families that were never read come first, larger ones before smaller ones. The others are ordered by the age of their
// values, weighted by the logarithm of their fault rate: a family that changes a thousand times as fast is read about
// ten times as soon, and a slow one never waits for ever.
//
// Pure; any thread.
#pragma once

#include <chrono>
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
double ReadingPriority(std::chrono::nanoseconds age, uint64_t faults);

// True if `a` is read before `b`. A strict order.
bool ReadBefore(const Staleness& a, const Staleness& b);

}  // namespace cow::collectors
