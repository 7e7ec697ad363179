// Sorts processes by age, parents before their children. Pure functions, any thread.
#pragma once

#include <sys/types.h>

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <unordered_map>
#include <utility>
#include <vector>

#include "collectors/memory/process/process_table.h"

namespace cow::memory {

// Puts parents before their children among processes with the same start tick. Pids wrap around, so a child may have
// the smaller pid. `process_of` returns the process of an item.
template <class Iterator, class ProcessOf>
void PutParentsFirst(Iterator begin, Iterator end, const ProcessOf& process_of) {
  const auto at = [&](size_t i) -> const Process& { return process_of(*(begin + static_cast<std::ptrdiff_t>(i))); };
  const auto size = static_cast<size_t>(end - begin);
  std::unordered_map<pid_t, size_t> place_of;
  for (size_t i = 0; i < size; ++i) place_of.emplace(at(i).pid, i);
  const auto parent_of = [&](size_t i) {
    const auto parent = place_of.find(at(i).stat.ppid);
    return parent != place_of.end() && at(i).IsChildOf(at(parent->second)) ? parent->second : i;
  };
  std::vector<size_t> order;
  std::vector<bool> taken(size);
  std::vector<size_t> chain;
  for (size_t i = 0; i < size; ++i) {
    for (size_t next = i; !taken[next]; next = parent_of(next)) {
      taken[next] = true;
      chain.push_back(next);
    }
    order.insert(order.end(), chain.rbegin(), chain.rend());
    chain.clear();
  }
  if (std::is_sorted(order.begin(), order.end())) return;
  std::vector<typename std::iterator_traits<Iterator>::value_type> items(std::make_move_iterator(begin),
                                                                         std::make_move_iterator(end));
  for (size_t i = 0; i < size; ++i) *(begin + static_cast<std::ptrdiff_t>(i)) = std::move(items[order[i]]);
}

// Sorts by age: oldest first, parents before their children.
template <class Iterator, class ProcessOf>
void SortByAge(Iterator begin, Iterator end, const ProcessOf& process_of) {
  std::sort(begin, end, [&](const auto& a, const auto& b) {
    return std::pair(process_of(a).start_ticks, process_of(a).pid) <
           std::pair(process_of(b).start_ticks, process_of(b).pid);
  });
  while (begin != end) {
    const auto next = std::find_if(
        begin, end, [&](const auto& item) { return process_of(item).start_ticks != process_of(*begin).start_ticks; });
    if (next - begin > 1) PutParentsFirst(begin, next, process_of);
    begin = next;
  }
}

}  // namespace cow::memory
