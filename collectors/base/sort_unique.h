// Sorted lists without duplicates. Pure.
#pragma once

#include <algorithm>
#include <cstddef>
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

// Removes the first items with equal keys from `rest` and returns them.
template <class Item, class KeyOf>
std::span<Item> TakeRun(std::span<Item>& rest, const KeyOf& key_of) {
  size_t count = 1;
  while (count < rest.size() && key_of(rest[count]) == key_of(rest.front())) ++count;
  const std::span<Item> run = rest.first(count);
  rest = rest.subspan(count);
  return run;
}

}  // namespace cow
