#include "collectors/engine/scan_order.h"

#include <algorithm>
#include <cmath>

namespace cow::collectors {

double ReadingPriority(std::chrono::nanoseconds age, uint64_t faults) {
  // The clock can be set back, and an age of 0 gives no rate.
  const auto seconds =
      std::chrono::duration<double>(std::max<std::chrono::nanoseconds>(age, std::chrono::milliseconds{1}));
  return seconds.count() * (1 + std::log2(1 + static_cast<double>(faults) / seconds.count()));
}

bool ReadBefore(const Staleness& a, const Staleness& b) {
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
