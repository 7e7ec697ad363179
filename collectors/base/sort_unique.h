// Sorted lists without duplicates. Pure.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

namespace cow {

template <class Item>
void SortUnique(std::vector<Item>& items) {
  std::sort(items.begin(), items.end());
  items.erase(std::unique(items.begin(), items.end()), items.end());
}

inline bool Contains(std::span<const uint64_t> sorted, uint64_t item) {
  return std::binary_search(sorted.begin(), sorted.end(), item);
}

}  // namespace cow
