// Sorted lists without duplicates. Pure.
#pragma once

#include <algorithm>
#include <span>
#include <type_traits>
#include <vector>

namespace cow {

template <class Item>
void SortUnique(std::vector<Item>& items) {
  std::sort(items.begin(), items.end());
  items.erase(std::unique(items.begin(), items.end()), items.end());
}

template <class Item>
bool Contains(std::type_identity_t<std::span<const Item>> sorted, Item item) {
  return std::binary_search(sorted.begin(), sorted.end(), item);
}

}  // namespace cow
