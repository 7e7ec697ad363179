// Sorts a list and drops what is in it twice.
#pragma once

#include <algorithm>
#include <vector>

namespace cow::memory {

template <class Item>
void SortUnique(std::vector<Item>& items) {
  std::sort(items.begin(), items.end());
  items.erase(std::unique(items.begin(), items.end()), items.end());
}

}  // namespace cow::memory
